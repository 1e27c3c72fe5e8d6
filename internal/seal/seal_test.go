package seal_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"portolan/internal/seal"
)

var aad = seal.AAD{Purpose: "kubeconfig", Subject: "aks-eastus2"}

// entry is a keyring entry whose key is one byte repeated.
func entry(id string, fill byte) string {
	return id + ":" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{fill}, 32))
}

func parse(t *testing.T, text string) *seal.Keyring {
	t.Helper()
	ring, err := seal.ParseKeyring(text)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

func sealWith(t *testing.T, ring *seal.Keyring, plaintext string) seal.Sealed {
	t.Helper()
	sealed, err := ring.Seal([]byte(plaintext), aad)
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

func TestSealAndOpen(t *testing.T) {
	t.Parallel()
	ring := parse(t, seal.NewKey())
	for _, plaintext := range []string{"", "apiVersion: v1", strings.Repeat("x", 1<<20)} {
		sealed := sealWith(t, ring, plaintext)
		if len(plaintext) > 0 && bytes.Contains(sealed.Data, []byte(plaintext)) {
			t.Error("the plaintext shows")
		}
		opened, err := ring.Open(sealed, aad)
		if err != nil {
			t.Fatal(err)
		}
		if string(opened) != plaintext {
			t.Errorf("opened %d bytes of %d", len(opened), len(plaintext))
		}
	}
	if bytes.Equal(sealWith(t, ring, "same").Data, sealWith(t, ring, "same").Data) {
		t.Error("sealing twice gave the same bytes")
	}
}

func TestFirstKeySealsAndAllOpen(t *testing.T) {
	t.Parallel()
	before := sealWith(t, parse(t, entry("old", 1)), "secret")
	ring := parse(t, entry("new", 2)+" , "+entry("old", 1)+"\n")
	if opened, err := ring.Open(before, aad); err != nil || string(opened) != "secret" {
		t.Errorf("opened %q, %v", opened, err)
	}
	if after := sealWith(t, ring, "secret"); after.KeyID != "new" || ring.SealingKeyID() != "new" {
		t.Errorf("sealed with %q", after.KeyID)
	}
}

func TestValueOpensOnlyWhereItWasSealed(t *testing.T) {
	t.Parallel()
	ring := parse(t, entry("k", 1))
	sealed := sealWith(t, ring, "secret")
	for _, other := range []seal.AAD{
		{Purpose: "kubeconfig", Subject: "aks-eastus"},
		{Purpose: "environment", Subject: "aks-eastus2"},
		{Purpose: "aks-eastus2", Subject: "kubeconfig"},
		{Purpose: "kubeconfiga", Subject: "ks-eastus2"},
	} {
		if opened, err := ring.Open(sealed, other); !errors.Is(err, seal.ErrWrongKey) || opened != nil {
			t.Errorf("%v: got %q, %v", other, opened, err)
		}
	}
	for _, partial := range []seal.AAD{{}, {Purpose: "kubeconfig"}, {Subject: "aks-eastus2"}} {
		if _, err := ring.Seal([]byte("secret"), partial); err == nil {
			t.Errorf("%v: sealed", partial)
		}
	}
}

func TestAlteredValueDoesNotOpen(t *testing.T) {
	t.Parallel()
	ring := parse(t, entry("k", 1))
	sealed := sealWith(t, ring, "secret")
	for i := range sealed.Data {
		altered := seal.Sealed{KeyID: sealed.KeyID, Data: bytes.Clone(sealed.Data)}
		altered.Data[i] ^= 1
		if _, err := ring.Open(altered, aad); !errors.Is(err, seal.ErrWrongKey) {
			t.Fatalf("byte %d: got %v", i, err)
		}
		cut := seal.Sealed{KeyID: sealed.KeyID, Data: sealed.Data[:i]}
		if _, err := ring.Open(cut, aad); !errors.Is(err, seal.ErrWrongKey) {
			t.Fatalf("cut to %d bytes: got %v", i, err)
		}
	}
}

func TestWrongAndMissingKey(t *testing.T) {
	t.Parallel()
	sealed := sealWith(t, parse(t, entry("spring", 1)), "secret")
	if _, err := parse(t, entry("spring", 2)).Open(sealed, aad); !errors.Is(err, seal.ErrWrongKey) {
		t.Errorf("another key under the id: got %v", err)
	}
	_, err := parse(t, entry("summer", 1)).Open(sealed, aad)
	if !errors.Is(err, seal.ErrNoKey) || !strings.Contains(err.Error(), `"spring"`) {
		t.Errorf("key not in the ring: got %v", err)
	}
}

func TestEmptyKeyring(t *testing.T) {
	t.Parallel()
	for name, ring := range map[string]*seal.Keyring{"nil": nil, "zero": {}, "blank": parse(t, " \n")} {
		if ring.CanSeal() || ring.SealingKeyID() != "" || len(ring.KeyIDs()) != 0 {
			t.Errorf("%s: can seal", name)
		}
		if _, err := ring.Seal([]byte("secret"), aad); !errors.Is(err, seal.ErrNoKey) || !strings.Contains(err.Error(), "PORTOLAN_ENCRYPTION_KEYS") {
			t.Errorf("%s: sealing gave %v", name, err)
		}
		if _, err := ring.Open(seal.Sealed{KeyID: "k"}, aad); !errors.Is(err, seal.ErrNoKey) {
			t.Errorf("%s: opening gave %v", name, err)
		}
	}
}

func TestKeyringNeverPrintsKeys(t *testing.T) {
	t.Parallel()
	ring := parse(t, entry("a", 'K')+","+entry("b", 'K'))
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		if got := fmt.Sprintf(verb, ring); got != "keyring(a b)" {
			t.Errorf("%s prints %s", verb, got)
		}
	}
}

func TestParseKeyringSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	secret := strings.TrimPrefix(entry("", 'K'), ":")
	for name, test := range map[string]struct{ text, want string }{
		"no colon":            {secret, "key 1: has no colon"},
		"trailing comma":      {entry("a", 1) + ",", "key 2: is empty"},
		"id and key swapped":  {secret + ":a", "key 1: its id must be"},
		"key for an id":       {strings.TrimRight(secret, "=") + ":a", "key 1: its id must be"},
		"no id":               {":" + secret, "key 1: its id must be"},
		"not base64":          {"a:" + secret[:20] + "!" + secret[20:], `key 1: "a" is not in standard base64`},
		"unpadded":            {"a:" + strings.TrimRight(secret, "="), `key 1: "a" is not in standard base64`},
		"too short":           {"a:" + base64.StdEncoding.EncodeToString([]byte("KKKK")), `key 1: "a" has 4 bytes; a key has 32`},
		"no key":              {"a:", `key 1: "a" has 0 bytes; a key has 32`},
		"same id twice":       {entry("a", 1) + "," + entry("a", 2), `key 2: the id "a" is used twice`},
		"newlines for commas": {entry("a", 1) + "\n" + entry("b", 2), `key 1: "a" is not in standard base64`},
	} {
		_, err := seal.ParseKeyring(test.text)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v", name, err)
		}
		if err != nil && strings.Contains(err.Error(), secret[:8]) {
			t.Errorf("%s: the error shows the key: %v", name, err)
		}
	}
}

func FuzzParseKeyring(f *testing.F) {
	f.Add("")
	f.Add(entry("a", 1))
	f.Add(entry("a", 1) + ", " + entry("b", 2))
	f.Add("a:b:c,,:")
	f.Fuzz(func(t *testing.T, text string) {
		ring, err := seal.ParseKeyring(text)
		if err != nil {
			if ring != nil {
				t.Error("both a keyring and an error")
			}
			for part := range strings.FieldsFuncSeq(text, func(r rune) bool { return strings.ContainsRune(":, \n", r) }) {
				if len(part) > 32 && strings.Contains(err.Error(), part) {
					t.Errorf("the error shows what may be a key: %v", err)
				}
			}
			return
		}
		if ring.CanSeal() != (strings.TrimSpace(text) != "") {
			t.Error("a text without keys can seal, or one with keys cannot")
		}
		if !ring.CanSeal() {
			return
		}
		opened, err := ring.Open(sealWith(t, ring, text), aad)
		if err != nil || string(opened) != text {
			t.Errorf("opened %q, %v", opened, err)
		}
	})
}

func TestKeyFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keys")
	ring, created, err := seal.LoadOrCreateKeyFile(path)
	if err != nil || !created || !ring.CanSeal() {
		t.Fatalf("created %v, %v", created, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	again, created, err := seal.LoadOrCreateKeyFile(path)
	if err != nil || created || again.SealingKeyID() != ring.SealingKeyID() {
		t.Errorf("the second time: created %v, %v", created, err)
	}
	if files, err := os.ReadDir(filepath.Dir(path)); err != nil || len(files) != 1 {
		t.Errorf("left behind: %v, %v", files, err)
	}
}

func TestKeyFileIsMadeOnce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keys")
	const processes = 8
	rings := make([]*seal.Keyring, processes)
	creators := make([]bool, processes)
	var group sync.WaitGroup
	for i := range processes {
		group.Go(func() {
			var err error
			if rings[i], creators[i], err = seal.LoadOrCreateKeyFile(path); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	made := 0
	for i := range processes {
		if rings[i].SealingKeyID() != rings[0].SealingKeyID() {
			t.Error("two processes got different keys")
		}
		if creators[i] {
			made++
		}
	}
	if made != 1 {
		t.Errorf("%d processes made the file", made)
	}
}

func TestUnusableKeyFileIsKept(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		text string
		mode os.FileMode
		want string
	}{
		"empty":            {"", 0o600, "holds no key"},
		"garbage":          {"hello", 0o600, "has no colon"},
		"others may read":  {entry("a", 1), 0o640, "chmod 600"},
		"anyone may write": {entry("a", 1), 0o602, "chmod 600"},
	} {
		path := filepath.Join(t.TempDir(), "keys")
		if err := errors.Join(os.WriteFile(path, []byte(test.text), 0o600), os.Chmod(path, test.mode)); err != nil {
			t.Fatal(err)
		}
		if _, _, err := seal.LoadOrCreateKeyFile(path); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v", name, err)
		}
		if kept, err := os.ReadFile(path); err != nil || string(kept) != test.text {
			t.Errorf("%s: the file was changed", name)
		}
	}
	if _, _, err := seal.LoadOrCreateKeyFile(filepath.Join(t.TempDir(), "missing", "keys")); err == nil {
		t.Error("made a key file in a folder that does not exist")
	}
}
