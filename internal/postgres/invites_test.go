package postgres_test

import (
	"crypto/sha256"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"portolan/internal/fleet"
)

func anInvite(email, token string) fleet.Invite {
	hash := sha256.Sum256([]byte(token))
	return fleet.Invite{
		ID: uuid.NewString(), Email: email, Role: fleet.RoleViewer, TokenHash: hash[:], InvitedBy: "admin@example.org",
		CreatedAt: time.Now(), ExpiresAt: time.Now().Add(time.Hour),
	}
}

func TestInvitingOneAddressManyTimesAtOnceLosesTrackOfNoLink(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const email = "a@example.org"
	invites := make([]fleet.Invite, 120)
	for i := range invites {
		invites[i] = anInvite(email, fmt.Sprint("token ", i))
	}
	var wg sync.WaitGroup
	const hands = 12
	for first := range hands {
		wg.Go(func() {
			for i := first; i < len(invites); i += hands {
				if err := b.Invite(t.Context(), invites[i], fleet.Actor{}, fleet.AuditEntry{}); err != nil {
					t.Errorf("invite: %v", err)
				}
				if i%3 == 0 { // by whatever stands there now
					if err := b.withdrawAll(); err != nil && fleet.CodeOf(err) != fleet.CodeNotFound {
						t.Errorf("withdraw: %v", err)
					}
				}
			}
		})
	}
	wg.Wait()
	left, err := b.Invites(t.Context())
	b.must(err)
	for i, inv := range invites {
		switch _, why, err := b.InviteEnded(t.Context(), inv.TokenHash); {
		case err != nil:
			t.Error(err)
		case len(left) == 1 && left[0].ID == inv.ID:
			if why != fleet.InviteUnknown {
				t.Errorf("the invitation that stands is %s", why)
			}
		case why != fleet.InviteReplaced && why != fleet.InviteWithdrawn:
			t.Errorf("of link %d is known: %q", i, why)
		}
	}
}

func (b *bundle) withdrawAll() error {
	list, err := b.Invites(b.t.Context())
	for _, inv := range list {
		if err := b.WithdrawInvite(b.t.Context(), inv.ID, fleet.AuditEntry{}); err != nil {
			return err
		}
	}
	return err
}

func TestAnAddressIsNotInvitedWhileItAccepts(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for i := range 20 {
		email := fmt.Sprintf("a%d@example.org", i)
		first := anInvite(email, email)
		b.must(b.Invite(t.Context(), first, fleet.Actor{}, fleet.AuditEntry{}))
		var again, accept error
		var wg sync.WaitGroup
		wg.Go(func() {
			again = b.Invite(t.Context(), anInvite(email, email+" again"), fleet.Actor{}, fleet.AuditEntry{})
		})
		wg.Go(func() { accept = b.AcceptInvite(t.Context(), first.ID, aUser(email), fleet.AuditEntry{}) })
		wg.Wait()
		switch {
		case accept == nil:
			wantCode(t, again, fleet.CodeConflict)
		default:
			wantCode(t, accept, fleet.CodeNotFound)
			b.must(again)
		}
	}
}
