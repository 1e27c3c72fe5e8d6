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

// Whoever saw that there was no token just before one came makes no second, and
// hammers nothing after a failure.
func TestOneWhoComesLateMakesNoSecondToken(t *testing.T) {
	t.Parallel()
	for name, failed := range map[string]error{"a token": nil, "a failure": errors.New("the cloud is away")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tries := 0
			tokens := &Tokens{make: func(context.Context) (Token, error) {
				tries++
				return Token{Value: "one", Expires: time.Now().Add(time.Hour)}, failed
			}}
			if _, due, _ := tokens.present(); !due { // the late one looks
				t.Fatal("there is a token that nobody made")
			}
			first, err := tokens.Token(t.Context())
			if !errors.Is(err, failed) {
				t.Fatal(err)
			}
			late, err := tokens.renew() // and comes only now
			if !errors.Is(err, failed) || tries != 1 || late != any(first) {
				t.Errorf("after %d tries the late one has %v (%v), the first %v", tries, late, err, first)
			}
		})
	}
}

// A cloud tells how long a token is good: when it ends is counted from when it
// was asked for, however late the answer came.
func TestATokenEndsNoLaterThanTheCloudMeans(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		tokens := &Tokens{make: func(context.Context) (Token, error) {
			<-time.After(20 * time.Second)
			return Token{Value: "one", Expires: time.Now().Add(time.Minute)}, nil
		}}
		token, err := tokens.Token(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if good := token.Expires.Sub(began); good > time.Minute || good < 50*time.Second {
			t.Errorf("asked for a minute's token, it is taken to be good for %s", good)
		}
	})
}
