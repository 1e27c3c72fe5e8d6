package auth

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
	"golang.org/x/text/unicode/norm"
)

// The length of a password, in characters.
const (
	MinPasswordLength = 10
	MaxPasswordLength = 128
)

// current is what new passwords are hashed with: the second of OWASP's equivalent argon2id settings (Password Storage
// Cheat Sheet), the one with least memory of those that need no more than two passes.
var current = argonCost{memory: 19 * 1024, passes: 2, threads: 1}

const (
	saltLength = 16 // bytes, as RFC 9106 recommends
	hashLength = 32 // bytes
)

// hashing lets one password be hashed at a time: each takes 19 MiB and a whole processor, and a burst of logins must
// not take more.
var hashing = make(chan struct{}, 1)

// argonCost is what an argon2id hash costs to compute.
type argonCost struct {
	memory  uint32 // KiB
	passes  uint32
	threads uint8
}

// passwordHash is a stored hash taken apart.
type passwordHash struct {
	cost      argonCost
	salt, sum []byte
}

// ValidatePassword tells what a new password lacks, in words that fit beside its field. Length is what counts; what it
// is made of is not ruled on (NIST SP 800-63B).
func ValidatePassword(password string) error {
	n := utf8.RuneCountInString(norm.NFC.String(password))
	switch {
	case !utf8.ValidString(password) || strings.ContainsFunc(password, unicode.IsControl):
		return errors.New("must be plain text without control characters")
	case n < MinPasswordLength:
		return fmt.Errorf("must have at least %d characters", MinPasswordLength)
	case n > MaxPasswordLength:
		return fmt.Errorf("must have at most %d characters; this has %d", MaxPasswordLength, n)
	}
	return nil
}

// HashPassword returns what to store for a password, as a PHC string. It waits for its turn; the only error is that of
// ctx.
func HashPassword(ctx context.Context, password string) (string, error) {
	h := passwordHash{cost: current, salt: make([]byte, saltLength)}
	_, _ = rand.Read(h.salt) // never fails: it ends the program instead
	var err error
	if h.sum, err = h.compute(ctx, password, hashLength); err != nil {
		return "", err
	}
	return h.String(), nil
}

// VerifyPassword tells whether a password is the one that was hashed. For an account that does not exist, pass an empty
// hash: the answer is no and takes as long as for one that does. Errors are that of ctx, or that the hash is not one of
// HashPassword's; a wrong password is none.
func VerifyPassword(ctx context.Context, hash, password string) (bool, error) {
	if hash == "" {
		nobody := passwordHash{cost: current, salt: make([]byte, saltLength)}
		_, err := nobody.compute(ctx, password, hashLength)
		return false, err
	}
	h, err := parsePasswordHash(hash)
	if err != nil {
		return false, err
	}
	sum, err := h.compute(ctx, password, len(h.sum))
	if err != nil {
		return false, err
	}
	return subtle.ConstantTimeCompare(sum, h.sum) == 1, nil
}

// PasswordNeedsRehash tells whether a stored hash was made at another cost than new ones are, so that it should be
// replaced when its owner next signs in.
func PasswordNeedsRehash(hash string) bool {
	h, err := parsePasswordHash(hash)
	return err != nil || h.cost != current || len(h.salt) != saltLength || len(h.sum) != hashLength
}

// compute hashes a password when its turn has come. Passwords are brought to one Unicode form first: keyboards differ
// in how they send the same character.
func (h passwordHash) compute(ctx context.Context, password string, length int) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case hashing <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() {
		// What the hashing took is given back at once: an idle process would
		// keep it for minutes.
		debug.FreeOSMemory()
		<-hashing
	}()
	return argon2.IDKey([]byte(norm.NFC.String(password)), h.salt, h.cost.passes, h.cost.memory, h.cost.threads, uint32(length)), nil
}

// String is the PHC form: $argon2id$v=19$m=19456,t=2,p=1$salt$hash.
func (h passwordHash) String() string {
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, h.cost.memory, h.cost.passes, h.cost.threads,
		base64.RawStdEncoding.EncodeToString(h.salt), base64.RawStdEncoding.EncodeToString(h.sum))
}

// errPasswordHash does not hold the hash, which has no place in a log.
var errPasswordHash = errors.New("stored password hash is not a usable argon2id hash")

// parsePasswordHash reads the form that String writes. Costs are bounded, so that a damaged row cannot ask for all memory.
func parsePasswordHash(text string) (passwordHash, error) {
	var h passwordHash
	parts := strings.Split(text, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return h, errPasswordHash
	}
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &h.cost.memory, &h.cost.passes, &h.cost.threads); err != nil {
		return h, errPasswordHash
	}
	salt, saltErr := base64.RawStdEncoding.Strict().DecodeString(parts[4])
	sum, sumErr := base64.RawStdEncoding.Strict().DecodeString(parts[5])
	h.salt, h.sum = salt, sum
	switch {
	case saltErr != nil || sumErr != nil,
		len(salt) < 8 || len(salt) > 64,
		len(sum) < 16 || len(sum) > 64,
		h.cost.memory < 8 || h.cost.memory > 256*1024,
		h.cost.passes < 1 || h.cost.passes > 16,
		h.cost.threads < 1 || h.cost.threads > 16,
		h.String() != text: // anything that Sscanf let through
		return passwordHash{}, errPasswordHash
	}
	return h, nil
}
