package static

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

func get(t *testing.T, a *Assets, address, encoding string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, address, nil)
	if encoding != "" {
		r.Header.Set("Accept-Encoding", encoding)
	}
	w := httptest.NewRecorder()
	a.Handler().ServeHTTP(w, r)
	return w
}

func read(t *testing.T, r io.Reader) []byte {
	t.Helper()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestAssets(t *testing.T) {
	a, err := New()
	if err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]string{
		a.CSS():  "text/css; charset=utf-8",
		a.JS():   "text/javascript; charset=utf-8",
		a.Sans(): "font/woff2",
		a.Mono(): "font/woff2",
		a.Icon(): "image/svg+xml",
	} {
		if !regexp.MustCompile(`^/static/[a-z]+-[A-Za-z0-9_-]{12}\.[a-z0-9]+$`).MatchString(address) {
			t.Errorf("%s is not named after its content", address)
		}
		plain := get(t, a, address, "")
		if plain.Code != http.StatusOK {
			t.Fatalf("%s: %d", address, plain.Code)
		}
		if got := plain.Header().Get("Content-Type"); got != want {
			t.Errorf("%s: Content-Type %q, want %q", address, got, want)
		}
		if got := plain.Header().Get("Cache-Control"); got != "public, max-age=31536000, immutable" {
			t.Errorf("%s: Cache-Control %q", address, got)
		}
		body := read(t, plain.Body)
		packed := get(t, a, address, "br, gzip;q=0.8")
		if strings.HasSuffix(address, ".woff2") {
			if packed.Header().Get("Content-Encoding") != "" {
				t.Errorf("%s is compressed twice", address)
			}
			continue
		}
		z, err := gzip.NewReader(packed.Body)
		if err != nil {
			t.Fatalf("%s: %v", address, err)
		}
		if !bytes.Equal(read(t, z), body) {
			t.Errorf("%s: the compressed file differs", address)
		}
		if refused := get(t, a, address, "gzip;q=0"); refused.Header().Get("Content-Encoding") != "" {
			t.Errorf("%s is compressed for a client that refuses it", address)
		}
	}
	if r := get(t, a, "/static/app-000000000000.css", ""); r.Code != http.StatusNotFound {
		t.Errorf("an unknown file: %d", r.Code)
	}
}

// The budgets are those of the interface's design: uncompressed bytes a page.
func TestBudgets(t *testing.T) {
	a, err := New()
	if err != nil {
		t.Fatal(err)
	}
	for address, most := range map[string]int{a.CSS(): 80 << 10, a.JS(): 120 << 10} {
		n := len(read(t, get(t, a, address, "").Body))
		t.Logf("%s: %d bytes", address, n)
		if n > most {
			t.Errorf("%s: %d bytes, at most %d", address, n, most)
		}
	}
}

// Every address in the style sheet that is loaded has to be our own; what Oat
// draws with data: addresses is overridden (the policy would refuse it).
func TestStyleAddresses(t *testing.T) {
	a, err := New()
	if err != nil {
		t.Fatal(err)
	}
	css := string(read(t, get(t, a, a.CSS(), "").Body))
	for _, m := range regexp.MustCompile(`url\(["']?([^"')]{0,40})`).FindAllStringSubmatch(css, -1) {
		if m[1] != a.Sans() && m[1] != a.Mono() && !strings.HasPrefix(m[1], "data:image/svg+xml") {
			t.Errorf("the style sheet loads %s", m[1])
		}
	}
	for _, name := range styles[1:] {
		own, err := files.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if regexp.MustCompile(`url\(["']?data:`).Match(own) {
			t.Errorf("%s has a data: address", name)
		}
	}
}

func TestVendorSums(t *testing.T) {
	list, err := files.Open("vendor/SHA256SUMS")
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{}
	for s := bufio.NewScanner(list); s.Scan(); {
		if strings.HasPrefix(s.Text(), "#") {
			continue
		}
		sum, name, ok := strings.Cut(s.Text(), "  ")
		if !ok {
			t.Fatalf("not a line of sums: %q", s.Text())
		}
		body, err := files.ReadFile("vendor/" + name)
		if err != nil {
			t.Error(err)
			continue
		}
		if got := sha256.Sum256(body); hex.EncodeToString(got[:]) != sum {
			t.Errorf("vendor/%s was changed", name)
		}
		listed["vendor/"+name] = true
	}
	err = fs.WalkDir(files, "vendor", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && name != "vendor/SHA256SUMS" && !listed[name] {
			t.Errorf("%s is not in SHA256SUMS", name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
