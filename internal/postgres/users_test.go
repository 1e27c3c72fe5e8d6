package postgres_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"portolan/internal/fleet"
)

func aUser(email string) fleet.User {
	return fleet.User{ID: uuid.NewString(), Email: email, Role: fleet.RoleAdmin, PasswordHash: "hash", Epoch: 1}
}

func TestTheFirstUserIsMadeOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var made atomic.Int32
	var wg sync.WaitGroup
	for _, email := range []string{"a@example.org", "b@example.org", "c@example.org", "d@example.org"} {
		wg.Go(func() {
			err := b.CreateUser(t.Context(), aUser(email), true, fleet.AuditEntry{Action: "user.create"})
			switch {
			case err == nil:
				made.Add(1)
			case fleet.CodeOf(err) != fleet.CodeConflict:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n, err := b.CountUsers(t.Context()); n != 1 || made.Load() != 1 || err != nil {
		t.Fatalf("%d users, %d made, %v", n, made.Load(), err)
	}
}

func TestUsersAreFoundAndTheirPasswordChanged(t *testing.T) {
	t.Parallel()
	b := setup(t)
	u := aUser("a@example.org")
	b.must(b.CreateUser(t.Context(), u, false, fleet.AuditEntry{}))
	wantCode(t, b.CreateUser(t.Context(), aUser(u.Email), false, fleet.AuditEntry{}), fleet.CodeConflict)
	b.must(b.SetPassword(t.Context(), u.ID, "other", fleet.AuditEntry{Action: "user.password"}))
	byEmail, err := b.UserByEmail(t.Context(), u.Email)
	b.must(err)
	byID, err := b.UserByID(t.Context(), u.ID)
	b.must(err)
	if byEmail != byID || byID.PasswordHash != "other" || byID.Epoch != 2 || byID.Role != fleet.RoleAdmin {
		t.Fatalf("%+v %+v", byEmail, byID)
	}
	for _, id := range []string{"x", uuid.NewString()} {
		_, err := b.UserByID(t.Context(), id)
		wantCode(t, err, fleet.CodeNotFound)
		wantCode(t, b.SetPassword(t.Context(), id, "x", fleet.AuditEntry{}), fleet.CodeNotFound)
	}
	if list, err := b.Users(t.Context()); err != nil || len(list) != 1 {
		t.Fatalf("%v %v", list, err)
	}
}

func TestLoginFailuresAreCountedPerKeyAndForgotten(t *testing.T) {
	t.Parallel()
	b := setup(t)
	now := time.Now()
	for _, at := range []time.Time{now.Add(-25 * time.Hour), now.Add(-time.Hour), now} {
		b.must(b.AddLoginFailure(t.Context(), "k", at))
	}
	b.must(b.AddLoginFailure(t.Context(), "other", now))
	for since, want := range map[time.Duration]int{48 * time.Hour: 2, time.Minute: 1} {
		if n, err := b.LoginFailures(t.Context(), "k", now.Add(-since)); n != want || err != nil {
			t.Fatalf("%d since %s, want %d, %v", n, since, want, err)
		}
	}
	b.must(b.ClearLoginFailures(t.Context(), "k"))
	if n, err := b.LoginFailures(t.Context(), "k", time.Time{}); n != 0 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
}

func TestSetupTokenIsStoredOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, hash := range []string{"first", "second"} {
		if stored, err := b.SetupToken(t.Context(), []byte(hash)); string(stored) != "first" || err != nil {
			t.Fatalf("stored %q, %v", stored, err)
		}
	}
	one, err := b.Installation(t.Context())
	b.must(err)
	two, err := setup(t).Installation(t.Context())
	b.must(err)
	if one == "" || one == two {
		t.Fatalf("installations %q and %q", one, two)
	}
}
