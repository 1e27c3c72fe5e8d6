package kube_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"portolan/internal/clustertest"
	"portolan/internal/kube"
)

func TestABlackHoledClusterHoldsNobody(t *testing.T) {
	t.Parallel()
	_, raw := clustertest.Kubeconfig(t, "k3s", "kwok")
	proxy, through := clustertest.ThroughProxy(t, raw)
	k, err := kube.Parse(through, kube.ParseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	client, err := kube.NewClient(k, opts)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(limit time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		_, err := client.NamespaceUID(ctx, "kube-system")
		return err
	}
	if err := ask(patience); err != nil {
		t.Fatal(err)
	}
	proxy.BlackHole()
	var asking sync.WaitGroup
	for range 5 {
		asking.Go(func() { _ = ask(time.Second) })
	}
	asking.Wait()
	unsent := 0
	for range 100 {
		switch err := ask(time.Second); {
		case err == nil:
			t.Fatal("a cluster that is silent answers")
		case strings.Contains(err.Error(), notSent): // but for one now and then
			unsent++
		}
	}
	if unsent < 90 {
		t.Errorf("%d of a hundred requests were not sent", unsent)
	}
	proxy.Restore()
	began := time.Now()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for ask(30*time.Second) != nil {
		if time.Since(began) > patience {
			t.Fatal("it does not heal")
		}
		<-tick.C
	}
	t.Logf("healed after %s", time.Since(began))
}

// notSent is what a request says that was not sent.
const notSent = "asked again in a moment: "

// clientOf is the client of a stand-in for an API server.
func clientOf(t *testing.T, server string, ca *authority) *kube.Client {
	t.Helper()
	k, err := kube.Parse([]byte(kubeconfigFor(server, "    certificate-authority-data: "+b64(ca.pem)+"\n", tokenUser)), kube.ParseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	client, err := kube.NewClient(k, opts)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// A request that is not sent says why the latest one failed that was.
func TestWhatIsNotSentSaysWhy(t *testing.T) {
	t.Parallel()
	ca := testCA(t)
	expired := serveTLS(t, ca.pair(t, time.Now().Add(-time.Hour), "127.0.0.1"), denied)
	breaks, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { breaks.Close() })
	go func() {
		for conn, err := breaks.Accept(); err == nil; conn, err = breaks.Accept() {
			conn.Close()
		}
	}()
	for name, c := range map[string]struct{ server, reason string }{
		"an expired certificate": {expired, "certificate has expired"},
		"a refused address":      {"https://169.254.169.254:443", "link-local"},
		"a lost connection":      {"https://" + breaks.Addr().String(), "the connection broke"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			client := clientOf(t, c.server, ca)
			var err error
			for err == nil || !strings.Contains(err.Error(), notSent) {
				if _, err = client.NamespaceUID(ctx, "kube-system"); err == nil || ctx.Err() != nil {
					t.Fatal(err)
				}
			}
			if !strings.Contains(err.Error(), c.reason) {
				t.Errorf("it says %q", err)
			}
		})
	}
}

// Who gives up says nothing about the server, whatever the cause, also while
// there is no connection yet.
func TestRequestsThatAreGivenUpAreNoFailures(t *testing.T) {
	t.Parallel()
	silent, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	if err := silent.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	client := clientOf(t, "https://"+silent.Addr().String(), testCA(t))
	for range 5 {
		ctx, giveUp := context.WithCancelCause(t.Context())
		asked := make(chan error, 1)
		go func() {
			_, err := client.NamespaceUID(ctx, "kube-system")
			asked <- err
		}()
		conn, err := silent.Accept()
		if err != nil {
			t.Fatalf("the request is not sent: %v", err)
		}
		t.Cleanup(func() { conn.Close() })
		giveUp(errors.New("a sibling failed"))
		if err := <-asked; err == nil || strings.Contains(err.Error(), notSent) {
			t.Fatalf("it says %v", err)
		}
	}
}

// A server that comes back slower than before is back.
func TestASlowServerIsAskedAgain(t *testing.T) {
	t.Parallel()
	var slow atomic.Bool
	ca := testCA(t)
	client := clientOf(t, serveTLS(t, ca.pair(t, time.Now().Add(time.Hour), "127.0.0.1"), func(w http.ResponseWriter, r *http.Request) {
		if !slow.Load() {
			panic(http.ErrAbortHandler) // breaks the connection off
		}
		select {
		case <-time.After(6 * time.Second):
		case <-r.Context().Done():
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"kind":"Namespace","apiVersion":"v1","metadata":{"name":"kube-system","uid":"u"}}`)
	}), ca)
	var err error
	for err == nil || !strings.Contains(err.Error(), notSent) {
		_, err = client.NamespaceUID(t.Context(), "kube-system")
	}
	slow.Store(true)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); err != nil; <-tick.C {
		if time.Since(began) > patience {
			t.Fatalf("it does not heal: %v", err)
		}
		_, err = client.NamespaceUID(t.Context(), "kube-system")
	}
}
