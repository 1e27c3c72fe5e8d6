package auth_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"portolan/internal/auth"
)

const password = "correct horse battery"

func hash(t *testing.T, password string) string {
	t.Helper()
	hash, err := auth.HashPassword(t.Context(), password)
	if err != nil {
		t.Fatal(err)
	}
	return hash
}

func verify(t *testing.T, hash, password string) bool {
	t.Helper()
	ok, err := auth.VerifyPassword(t.Context(), hash, password)
	if err != nil {
		t.Fatal(err)
	}
	return ok
}

func TestPasswordHash(t *testing.T) {
	t.Parallel()
	stored := hash(t, password)
	if !strings.HasPrefix(stored, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Errorf("stored as %s", stored)
	}
	if !verify(t, stored, password) {
		t.Error("the right password was refused")
	}
	for _, wrong := range []string{"", password + " ", strings.ToUpper(password), password[1:]} {
		if verify(t, stored, wrong) {
			t.Errorf("%q was let in", wrong)
		}
	}
	if stored == hash(t, password) {
		t.Error("the same password hashed twice gave the same text")
	}
	if auth.PasswordNeedsRehash(stored) {
		t.Error("a fresh hash needs another")
	}
}

// The hash was made with the reference program: echo -n 'password' | argon2 somesalt -id -v 13 -t 2 -k 65536 -p 1
// (its own test suite, src/test.c of P-H-C/phc-winner-argon2).
func TestHashOfAnotherCost(t *testing.T) {
	t.Parallel()
	const stored = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
	if !verify(t, stored, "password") {
		t.Error("the right password was refused")
	}
	if verify(t, stored, "passwore") {
		t.Error("a wrong password was let in")
	}
	if !auth.PasswordNeedsRehash(stored) {
		t.Error("an old hash needs no other")
	}
}

func TestPasswordIsTheSameInEveryUnicodeForm(t *testing.T) {
	t.Parallel()
	if !verify(t, hash(t, "caf\u00e9 au lait"), "cafe\u0301 au lait") {
		t.Error("the decomposed form was refused")
	}
}

// Not parallel: it compares what the whole process has spent. Counted are the
// processors, not the clock: what else runs on the machine does not matter.
func TestUnknownAccountTakesAsLong(t *testing.T) {
	stored := hash(t, password)
	known, unknown := time.Hour, time.Hour // at least
	for range 5 {                          // in turns, so that both meet the same
		for hash, least := range map[string]*time.Duration{stored: &known, "": &unknown} {
			began := spent(t)
			if verify(t, hash, "a wrong password") {
				t.Error("let in")
			}
			*least = min(*least, spent(t)-began)
		}
	}
	if unknown < known/4 || unknown > known*4 {
		t.Errorf("an unknown account takes %v, a known one %v", unknown, known)
	}
	if verify(t, "", "") {
		t.Error("an empty password was let in to no account")
	}
}

// spent is the time that this process has had on all processors.
func spent(t *testing.T) time.Duration {
	t.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func TestDamagedHashIsAnError(t *testing.T) {
	t.Parallel()
	const salt, sum = "c29tZXNhbHQ", "CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
	for _, stored := range []string{
		"plain",
		"$argon2i$v=19$m=65536,t=2,p=1$" + salt + "$" + sum,
		"$argon2id$v=16$m=65536,t=2,p=1$" + salt + "$" + sum,
		"$argon2id$v=19$m=65536,t=0,p=1$" + salt + "$" + sum,
		"$argon2id$v=19$m=65536,t=2,p=0$" + salt + "$" + sum,
		"$argon2id$v=19$m=4294967295,t=2,p=1$" + salt + "$" + sum,
		"$argon2id$v=19$m=65536,t=99,p=1$" + salt + "$" + sum,
		"$argon2id$v=19$m=65536,t=2,p=1 $" + salt + "$" + sum,
		"$argon2id$v=19$m=65536,t=2,p=1$" + salt + "$",
		"$argon2id$v=19$m=65536,t=2,p=1$$" + sum,
		"$argon2id$v=19$m=65536,t=2,p=1$" + salt + "$" + sum + "$",
		"$argon2id$v=19$m=65536,t=2,p=1$" + salt + "$not base64!",
	} {
		ok, err := auth.VerifyPassword(t.Context(), stored, "password")
		if ok || err == nil {
			t.Errorf("%s: got %v, %v", stored, ok, err)
		}
		if err != nil && strings.Contains(err.Error(), "$") {
			t.Errorf("the error shows the hash: %v", err)
		}
	}
}

func TestHashingWaitsItsTurnNoLongerThanAsked(t *testing.T) {
	t.Parallel()
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := auth.HashPassword(canceled, password); !errors.Is(err, context.Canceled) {
		t.Errorf("hash: got %v", err)
	}
	if ok, err := auth.VerifyPassword(canceled, "", password); ok || !errors.Is(err, context.Canceled) {
		t.Errorf("verify: got %v, %v", ok, err)
	}

	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			if _, err := auth.HashPassword(t.Context(), password); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
}

func TestValidatePassword(t *testing.T) {
	t.Parallel()
	for _, good := range []string{strings.Repeat("x", 10), strings.Repeat("é", 128), password, "пароль пароль"} {
		if err := auth.ValidatePassword(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for bad, want := range map[string]string{
		"":                       "at least 10 characters",
		"123456789":              "at least 10 characters",
		"ééééééééé":              "at least 10 characters",
		strings.Repeat("x", 129): "at most 128 characters; this has 129",
		"twelve\x00chars":        "control characters",
		"twelve chars\n":         "control characters",
		"\xff\xfe not text":      "plain text",
	} {
		if err := auth.ValidatePassword(bad); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v", bad, err)
		}
	}
}
