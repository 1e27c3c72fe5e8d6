package seal

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"

	"portolan/internal/fleet"
)

// Why a value does not open, in the words of the domain.
var (
	ErrNoKey    = fleet.ErrKeyMissing
	ErrWrongKey = fleet.ErrKeyWrong
)

// AAD says what a sealed value is for. A value opens only with the AAD that it was sealed with.
type AAD struct {
	Purpose string // what kind of secret, such as "kubeconfig"
	Subject string // whose, such as the cluster's id
}

// Sealed is an encrypted value, as it is stored.
type Sealed struct {
	KeyID string // the key it was sealed with
	Data  []byte // 24 bytes of nonce, then the ciphertext and its 16-byte tag
}

// Seal encrypts with the keyring's first key. The error is ErrNoKey when there is none.
func (k *Keyring) Seal(plaintext []byte, aad AAD) (Sealed, error) {
	if !k.CanSeal() {
		return Sealed{}, fmt.Errorf("%w: none is configured; set PORTOLAN_ENCRYPTION_KEYS", ErrNoKey)
	}
	bound, err := aad.encode()
	if err != nil {
		return Sealed{}, err
	}
	first := k.keys[0]
	nonce := make([]byte, chacha20poly1305.NonceSizeX, chacha20poly1305.NonceSizeX+len(plaintext)+chacha20poly1305.Overhead)
	_, _ = rand.Read(nonce) // never fails: it ends the program instead
	return Sealed{KeyID: first.id, Data: first.aead.Seal(nonce, nonce, plaintext, bound)}, nil
}

// Open decrypts a value. The error is ErrNoKey, naming the id, when its key is not in the keyring, and ErrWrongKey when
// it does not open.
func (k *Keyring) Open(sealed Sealed, aad AAD) ([]byte, error) {
	key, ok := k.find(sealed.KeyID)
	if !ok {
		return nil, k.unopened(fmt.Errorf("%w: a value was sealed with the key %q, which %s does not hold", ErrNoKey, sealed.KeyID, k.place()))
	}
	bound, err := aad.encode()
	if err != nil {
		return nil, err
	}
	if len(sealed.Data) < chacha20poly1305.NonceSizeX {
		return nil, k.unopened(fmt.Errorf("%w: it is cut short", ErrWrongKey))
	}
	nonce, ciphertext := sealed.Data[:chacha20poly1305.NonceSizeX], sealed.Data[chacha20poly1305.NonceSizeX:]
	plaintext, err := key.aead.Open(nil, nonce, ciphertext, bound)
	if err != nil {
		return nil, k.unopened(fmt.Errorf("%w: the key %q is not the one it was sealed with, or the value was altered", ErrWrongKey, key.id))
	}
	return plaintext, nil
}

// encode gives each part its length, so that no two different AADs are the same bytes. Both parts are required: a value
// bound to nothing would open anywhere.
func (a AAD) encode() ([]byte, error) {
	if a.Purpose == "" || a.Subject == "" {
		return nil, errors.New("a sealed value needs a purpose and a subject")
	}
	encoded := []byte("portolan seal 1\x00")
	for _, part := range []string{a.Purpose, a.Subject} {
		encoded = binary.BigEndian.AppendUint64(encoded, uint64(len(part)))
		encoded = append(encoded, part...)
	}
	return encoded, nil
}
