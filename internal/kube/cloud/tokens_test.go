package cloud

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

// After a token that the API server no longer takes, the next is asked for until
// there is one, though the first try fails.
func TestARefusedTokenIsMadeAnewAfterAFailureToo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		tokens := &Tokens{make: func(context.Context) (Token, error) {
			if tries++; tries == 2 {
				return Token{}, errors.New("the cloud is away")
			}
			return Token{Value: strconv.Itoa(tries), Expires: time.Now().Add(time.Hour)}, nil
		}}
		first, err := tokens.Token(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Minute)
		tokens.drop(first.Value)
		if _, err := tokens.Token(t.Context()); err == nil {
			t.Fatal("there is a token that nobody made")
		}
		<-time.After(retryAfter + time.Second)
		if next, err := tokens.Token(t.Context()); err != nil || next.Value != "3" {
			t.Errorf("when the cloud is back, the token is %q (%v)", next.Value, err)
		}
	})
}
