package main

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// certificate is the one with which the pages are served by TLS. It is read
// again when one of its files has changed; connections that are open keep what
// they were opened with.
type certificate struct {
	certFile, keyFile string
	log               *slog.Logger

	mu       sync.Mutex
	pair     *tls.Certificate
	stamp    [2]string // of the files that pair is from
	failed   [2]string // of files that could not be used
	failedAt time.Time
}

// certificateRetry is how soon files that could not be used are tried again,
// although they look the same: they may have become readable.
const certificateRetry = 10 * time.Second

// loadCertificate returns the certificate of two PEM files, or nil when neither
// is given.
func loadCertificate(certFile, keyFile string, log *slog.Logger) (*certificate, error) {
	if certFile == "" && keyFile == "" {
		return nil, nil
	}
	if certFile == "" || keyFile == "" {
		return nil, errors.New("PORTOLAN_TLS_CERT and PORTOLAN_TLS_KEY go together: set both or none")
	}
	c := &certificate{certFile: certFile, keyFile: keyFile, log: log}
	c.stamp = c.look() // before: what changes meanwhile is read again
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("PORTOLAN_TLS_CERT, PORTOLAN_TLS_KEY: %w", err)
	}
	c.pair = &pair
	return c, nil
}

// look tells a file that was replaced from one that was not.
func (c *certificate) look() (stamp [2]string) {
	for i, name := range []string{c.certFile, c.keyFile} {
		if info, err := os.Stat(name); err == nil {
			stamp[i] = fmt.Sprint(info.ModTime().UnixNano(), info.Size())
		}
	}
	return stamp
}

// get is the GetCertificate of a tls.Config. Files that do not fit together,
// as between the writing of the two, leave the last good pair in place.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	stamp := c.look()
	if stamp == c.stamp || stamp == c.failed && time.Since(c.failedAt) < certificateRetry {
		return c.pair, nil
	}
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		c.failed, c.failedAt = stamp, time.Now()
		c.log.Error("the new TLS certificate cannot be used: going on with the last one", "err", err)
		return c.pair, nil
	}
	c.pair, c.stamp = &pair, stamp
	c.log.Info("took the new TLS certificate")
	return c.pair, nil
}

// config is nil without a certificate.
func (c *certificate) config() *tls.Config {
	if c == nil {
		return nil
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.get}
}

// ownCertificate trusts a server of this machine that has the certificate of
// the file, by whatever name it is asked.
func ownCertificate(certFile, keyFile string) (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		InsecureSkipVerify: true, //nolint:gosec // the very certificate is compared instead of its chain and name
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 || !bytes.Equal(s.PeerCertificates[0].Raw, pair.Certificate[0]) {
				return errors.New("the process has another TLS certificate than PORTOLAN_TLS_CERT")
			}
			return nil
		},
	}, nil
}
