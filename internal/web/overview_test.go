package web

import (
	"testing"
	"time"

	"portolan/internal/fleet"
)

func TestACredentialOfUnknownEndHasNotExpired(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for _, c := range []struct {
		ends time.Time
		word string
	}{{time.Time{}, "expiring"}, {now.Add(time.Hour), "expiring"}, {now.Add(-time.Hour), "expired"}} {
		cluster := fleet.Cluster{ID: "c1", Credential: fleet.CredentialFacts{NotAfter: c.ends}}
		list := attention(fleet.Overview{Expiring: []fleet.Status{{Cluster: cluster}}}, true, now)
		if len(list) != 1 || list[0].Status.Word != c.word {
			t.Errorf("one that ends %s: %+v", c.ends, list)
		}
	}
}
