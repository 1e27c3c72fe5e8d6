package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// writeCertificate writes a self-signed one with a serial number of its own.
func writeCertificate(t *testing.T, certFile, keyFile string, serial int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"portolan.example"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if file == "" {
			continue
		}
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		later := time.Now().Add(time.Duration(serial) * time.Second) // clocks of file systems are coarse
		if err := os.Chtimes(file, later, later); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTheCertificateIsReplacedWithoutDroppingStreams(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	writeCertificate(t, certFile, keyFile, 1)
	own, err := loadCertificate(certFile, keyFile, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	lines := make(chan string)
	handler := http.NewServeMux()
	handler.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	handler.HandleFunc("/stream", func(w http.ResponseWriter, r *http.Request) {
		for line := range lines {
			fmt.Fprintln(w, line)
			_ = http.NewResponseController(w).Flush()
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- serveHTTP(ctx, listener, handler, own) }()
	defer func() {
		close(lines)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()

	address := listener.Addr().String()
	anyCertificate := &tls.Config{InsecureSkipVerify: true} //nolint:gosec // which one it is, is what the test looks at
	serial := func() int64 {
		t.Helper()
		conn, err := tls.Dial("tcp", address, anyCertificate)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	client := &http.Client{Transport: &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: anyCertificate.Clone()}}
	defer client.CloseIdleConnections()
	go func() { lines <- "before" }()
	res, err := client.Get("https://" + address + "/stream")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	stream := bufio.NewScanner(res.Body)
	if !stream.Scan() || stream.Text() != "before" || res.ProtoMajor != 2 || serial() != 1 {
		t.Fatalf("%s %q, serial %d", res.Proto, stream.Text(), serial())
	}
	health := func() (int, string) {
		var out, log bytes.Buffer
		code := run(t.Context(), []string{"health", "--timeout", "5m", "--listen", address, "--tls-cert", certFile, "--tls-key", keyFile}, &out, &log)
		return code, log.String()
	}
	if code, text := health(); code != 0 {
		t.Errorf("portolan health: %s", text)
	}

	writeCertificate(t, certFile, "", 2) // its key is not there yet
	if n := serial(); n != 1 {
		t.Errorf("half a replacement: serial %d", n)
	}
	writeCertificate(t, certFile, keyFile, 3)
	if n := serial(); n != 3 {
		t.Errorf("after the replacement: serial %d", n)
	}
	lines <- "after"
	if !stream.Scan() || stream.Text() != "after" {
		t.Errorf("the stream was dropped: %q %v", stream.Text(), stream.Err())
	}
	if code, text := health(); code != 0 {
		t.Errorf("portolan health: %s", text)
	}
}

// TestACertificateIsTriedAgain: a key that could not be read for a moment is
// taken later, though nothing of the files tells that it can be read now.
func TestACertificateIsTriedAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	writeCertificate(t, certFile, keyFile, 1)
	own, err := loadCertificate(certFile, keyFile, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	serial := func() int64 {
		t.Helper()
		pair, err := own.get(nil)
		if err != nil {
			t.Fatal(err)
		}
		return pair.Leaf.SerialNumber.Int64()
	}
	writeCertificate(t, certFile, keyFile, 2)
	key, err := os.ReadFile(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	holds := func(text []byte) {
		t.Helper()
		if err := os.WriteFile(keyFile, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(keyFile, info.ModTime(), info.ModTime()); err != nil {
			t.Fatal(err)
		}
	}
	holds(bytes.Repeat([]byte{'x'}, len(key)))
	if n := serial(); n != 1 {
		t.Errorf("without a key: serial %d", n)
	}
	holds(key)
	own.failedAt = time.Now().Add(time.Hour) // however long this took
	if n := serial(); n != 1 {
		t.Errorf("tried again at once: serial %d", n)
	}
	own.failedAt = time.Now().Add(-certificateRetry)
	if n := serial(); n != 2 {
		t.Errorf("not tried again: serial %d", n)
	}
}

func TestHalfACertificateIsAnError(t *testing.T) {
	t.Parallel()
	for _, files := range [][2]string{{"a", ""}, {"", "b"}, {"absent", "absent"}} {
		if c, err := loadCertificate(files[0], files[1], slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("%v: %v", files, c)
		}
	}
	if c, err := loadCertificate("", "", nil); c != nil || err != nil {
		t.Errorf("none: %v %v", c, err)
	}
}
