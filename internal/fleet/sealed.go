package fleet

import (
	"errors"
	"fmt"
	"strconv"
)

// What sealed values are for. A value opens only for the purpose, and for the
// subject, that it was sealed with.
const (
	PurposeKubeconfig      = "kubeconfig"
	PurposeCloudCredential = "cloud-credential"
	PurposeReleaseSecrets  = "release-secrets"
)

// ReleaseSubject is whose the sealed secrets of a release are. Releases that
// were sealed before their number counted name the workload alone.
func ReleaseSubject(workloadID string, number int) string {
	return workloadID + "/" + strconv.Itoa(number)
}

var (
	// ErrKeyMissing means that the key which is needed is not in the keyring.
	ErrKeyMissing = errors.New("encryption key missing")
	// ErrKeyWrong means that a value did not open: the key under its id is
	// another one than it was sealed with, or the value was altered or moved to
	// another place. Cryptography can't tell which.
	ErrKeyWrong = errors.New("sealed value does not open")
)

// KeyFileError is ErrKeyMissing or ErrKeyWrong of keys that are kept in a file:
// PORTOLAN_ENCRYPTION_KEYS, if it were set, would take that file's place.
type KeyFileError struct {
	File string
	Err  error
}

// Error implements error.
func (e *KeyFileError) Error() string { return e.Err.Error() }

// Unwrap returns the error itself.
func (e *KeyFileError) Unwrap() error { return e.Err }

// Unopened is the Error of what could not be opened with the configured keys.
// It tells a key that is missing from one that is wrong: the first is found and
// added, the second is put right.
func Unopened(what, keyID string, err error) *Error {
	e := &Error{Code: CodeUnavailable, Err: err}
	where := "PORTOLAN_ENCRYPTION_KEYS"
	var kept *KeyFileError
	if errors.As(err, &kept) {
		where = "the file " + kept.File
	}
	switch {
	case errors.Is(err, ErrKeyMissing):
		e.Message = fmt.Sprintf("%s cannot be opened: the encryption key %s is missing.", what, keyID)
		e.Remedy = "Add the key " + keyID + " to " + where + ", behind the first one, a comma between them, and start Portolan again."
	case errors.Is(err, ErrKeyWrong):
		e.Message = fmt.Sprintf("%s cannot be opened: the encryption key under the id %s is the wrong one, or what it sealed was altered.", what, keyID)
		e.Remedy = "Give the id " + keyID + " in " + where + " the bytes it had, and start Portolan again; or enter the secret anew."
	default:
		e.Message = fmt.Sprintf("%s could not be opened with the encryption key %s.", what, keyID)
		e.Remedy = "Check " + where + ": the key " + keyID + " must be among the keys there."
	}
	return e
}

// SealedValue is one sealed value of the database, wherever it is kept.
type SealedValue struct {
	Row     []string // the key of its row, as text
	KeyID   string
	Data    []byte
	Purpose string
	Subject string
	// Former is the subject that values of an earlier time are bound to; "" =
	// there was none other.
	Former string
}

// SealedChange puts a value that was sealed anew in the place of another.
type SealedChange struct {
	Old   SealedValue
	KeyID string
	Data  []byte
}
