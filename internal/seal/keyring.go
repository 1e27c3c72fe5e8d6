// Package seal encrypts secrets at rest: kubeconfigs and the secret environment values of releases.
//
// It uses XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha) with random nonces. Each sealed value carries the id of its key,
// so that several keys can be in use while they are being rotated, and is bound to its purpose and to the row it
// belongs to, so that it does not open anywhere else.
package seal

import (
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"golang.org/x/crypto/chacha20poly1305"

	"portolan/internal/fleet"
)

// keyID is kept shorter than a key in base64, so that a key written in the place of an id is not taken for one and shown.
var keyID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,31}$`)

// Keyring holds the keys in use. The first one seals, all of them open. Nil and the zero value are empty. It never
// prints its keys.
type Keyring struct {
	keys []key
	file string // where they are kept; "" = PORTOLAN_ENCRYPTION_KEYS
}

type key struct {
	id   string
	aead cipher.AEAD
}

// ParseKeyring reads "id:base64-of-32-bytes" entries separated by commas. Blanks around entries are allowed, and a
// blank text is an empty keyring. Errors say which entry is wrong and how; they never hold any part of a key.
func ParseKeyring(text string) (*Keyring, error) {
	ring := &Keyring{}
	if strings.TrimSpace(text) == "" {
		return ring, nil
	}
	for i, entry := range strings.Split(text, ",") {
		k, err := parseKey(strings.TrimSpace(entry))
		if err != nil {
			return nil, fmt.Errorf("encryption key %d: %w", i+1, err)
		}
		if _, twice := ring.find(k.id); twice {
			return nil, fmt.Errorf("encryption key %d: the id %q is used twice", i+1, k.id)
		}
		ring.keys = append(ring.keys, k)
	}
	return ring, nil
}

func parseKey(entry string) (key, error) {
	if entry == "" {
		return key{}, errors.New("is empty")
	}
	id, encoded, found := strings.Cut(entry, ":")
	if !found {
		return key{}, errors.New("has no colon; expected id:base64")
	}
	if !keyID.MatchString(id) {
		return key{}, errors.New("its id must be 1 to 32 letters, digits, dots, dashes or underscores, the first a letter or digit")
	}
	secret, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return key{}, fmt.Errorf("%q is not in standard base64 with padding", id)
	}
	aead, err := chacha20poly1305.NewX(secret)
	if err != nil {
		return key{}, fmt.Errorf("%q has %d bytes; a key has %d", id, len(secret), chacha20poly1305.KeySize)
	}
	return key{id: id, aead: aead}, nil
}

// NewKey makes a keyring entry with a random key and a random id, in the form that ParseKeyring reads.
func NewKey() string {
	random := make([]byte, 4+chacha20poly1305.KeySize)
	_, _ = rand.Read(random) // never fails: it ends the program instead
	return "k" + hex.EncodeToString(random[:4]) + ":" + base64.StdEncoding.EncodeToString(random[4:])
}

func (k *Keyring) find(id string) (key, bool) {
	if k == nil {
		return key{}, false
	}
	for _, key := range k.keys {
		if key.id == id {
			return key, true
		}
	}
	return key{}, false
}

// place names where keys are added and put right.
func (k *Keyring) place() string {
	if k == nil || k.file == "" {
		return "PORTOLAN_ENCRYPTION_KEYS"
	}
	return "the file " + k.file
}

// unopened is err, which is ErrNoKey or ErrWrongKey, with the file that the keys are in.
func (k *Keyring) unopened(err error) error {
	if k == nil || k.file == "" {
		return err
	}
	return &fleet.KeyFileError{File: k.file, Err: err}
}

// CanSeal tells whether there is any key.
func (k *Keyring) CanSeal() bool { return k != nil && len(k.keys) > 0 }

// SealingKeyID is the id of the key that seals, "" when there is none. A value sealed under another one is due for
// rotation.
func (k *Keyring) SealingKeyID() string {
	if !k.CanSeal() {
		return ""
	}
	return k.keys[0].id
}

// KeyIDs are the ids of all keys, the sealing one first.
func (k *Keyring) KeyIDs() []string {
	if k == nil {
		return nil
	}
	ids := make([]string, len(k.keys))
	for i, key := range k.keys {
		ids[i] = key.id
	}
	return ids
}

// Format writes the ids alone, whatever the verb: a keyring that ends up in a log gives nothing away.
func (k *Keyring) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, "keyring("+strings.Join(k.KeyIDs(), " ")+")")
}
