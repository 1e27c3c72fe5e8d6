package kube_test

import (
	"context"
	"strings"
	"sync"
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
	if err := ask(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	proxy.BlackHole()
	var asking sync.WaitGroup
	for range 5 {
		asking.Go(func() { _ = ask(time.Second) })
	}
	asking.Wait()
	began := time.Now()
	for range 100 {
		if err := ask(time.Second); err == nil || !strings.Contains(err.Error(), "not answered the latest requests") {
			t.Fatalf("after %s: %v", time.Since(began), err)
		}
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("a hundred requests that were not sent took %s", took)
	}
	proxy.Restore()
	began = time.Now()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for ask(time.Second) != nil {
		if time.Since(began) > 15*time.Second {
			t.Fatal("it does not heal")
		}
		<-tick.C
	}
	t.Logf("healed after %s", time.Since(began))
}
