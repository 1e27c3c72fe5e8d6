package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// workerMetricsListen is where a worker answers when nothing else is said.
const workerMetricsListen = "127.0.0.1:9464"

type healthCmd struct {
	Listen        string        `env:"PORTOLAN_LISTEN" default:"127.0.0.1:8080" help:"Address of the web pages of that process."`
	MetricsListen string        `env:"PORTOLAN_METRICS_LISTEN" placeholder:"ADDRESS" help:"Address of its metrics."`
	TLSCert       string        `name:"tls-cert" env:"PORTOLAN_TLS_CERT" placeholder:"FILE" help:"Certificate with which that process serves its pages by TLS."`
	TLSKey        string        `name:"tls-key" env:"PORTOLAN_TLS_KEY" placeholder:"FILE" help:"Private key of that certificate."`
	Worker        bool          `help:"Ask a worker, at its metrics address, instead of the web pages."`
	Timeout       time.Duration `default:"3s" help:"How long an answer may take."`
}

// Run asks the process and returns an error unless it is ready.
func (c healthCmd) Run(ctx context.Context, out io.Writer) error {
	address, scheme, client := c.Listen, "http://", &http.Client{}
	switch {
	case c.Worker:
		address = cmp.Or(c.MetricsListen, workerMetricsListen)
	case c.TLSCert != "":
		config, err := ownCertificate(c.TLSCert, c.TLSKey)
		if err != nil {
			return err
		}
		scheme, client.Transport = "https://", &http.Transport{TLSClientConfig: config}
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1" // listening everywhere includes here
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+net.JoinHostPort(host, port)+"/readyz", nil)
	if err != nil {
		return err
	}
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, 1024))
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return errors.New(string(text))
	}
	_, err = fmt.Fprintln(out, string(text))
	return err
}
