package registry_test

import (
	"fmt"
	"strings"
	"testing"

	"portolan/internal/fleet"
)

func TestB4ASecondSaveIsToldWhatTheFirstChanged(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.register("c1")
	version := fmt.Sprint(c.Version)
	_, err := b.Update(t.Context(), admin, "c1", form("c1", "label", "First", "version", version))
	b.must(err)
	_, err = b.Update(t.Context(), admin, "c1", form("c1", "label", "Second", "region", "west", "version", version))
	shown := shownAs(t, err, fleet.CodeConflict)
	if shown.Problems["label"] != "now: First" || shown.Problems["region"] != "now: (empty)" || len(shown.Problems) != 2 {
		t.Fatalf("problems %v", shown.Problems)
	}
	if got := b.status("c1").Cluster.Label; got != "First" {
		t.Fatalf("label %q was overwritten", got)
	}
	b.wantRefused("cluster.update", "cluster/c1", "Another admin")
	_, err = b.Update(t.Context(), admin, "c1", form("c1"))
	wantCode(t, err, fleet.CodeInvalid) // no version
}

func TestB2WhatMakesAClusterUntested(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.register("c1")
	b.tested("c1", fleet.TestOK)
	for _, c := range []struct {
		field, value string
		target       bool
	}{
		{"label", "Another", true},
		{"region", "west", true},
		{"namespace", "elsewhere", false},
		{"openclaw_namespace", "claws", false},
		{"context", "second", false},
		{"exposure_mode", "node-port", false},
		{"kubeconfig_path", "two", false},
	} {
		version := fmt.Sprint(b.status("c1").Cluster.Version)
		_, err := b.Update(t.Context(), admin, "c1", form("c1", c.field, c.value, "version", version))
		b.must(err)
		if s := b.status("c1"); s.IsTarget() != c.target || s.Running {
			t.Errorf("after %s: target %t (%s), running %t", c.field, s.IsTarget(), s.WhyNotTarget(), s.Running)
		}
		version = fmt.Sprint(b.status("c1").Cluster.Version)
		_, err = b.Update(t.Context(), admin, "c1", form("c1", "version", version)) // back to what was tested
		b.must(err)
	}
	if s := b.status("c1"); !s.IsTarget() {
		t.Fatal(s.WhyNotTarget())
	}
}

func TestB3AClusterInUseStays(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.register("c1")
	w := fleet.Workload{ID: "0198b4f2-0000-7000-8000-000000000001", Name: "web", ClusterID: "c1", Namespace: "apps", Runtime: "container", Kind: fleet.KindDeployment}
	_, err := b.db.Begin(t.Context(), fleet.Begin{
		Workload: w, New: true, Release: &fleet.Release{WorkloadID: w.ID},
		Operation: fleet.Operation{ID: "0198b4f2-0000-7000-8000-000000000002", WorkloadID: w.ID, WorkloadName: "web", ClusterID: "c1", Verb: fleet.VerbDeploy},
	})
	b.must(err)
	for _, confirm := range []string{"", "c1"} {
		err := b.Delete(t.Context(), admin, "c1", confirm)
		if shown := shownAs(t, err, fleet.CodeConflict); !strings.Contains(shown.Message, "web") {
			t.Fatalf("message %q", shown.Message)
		}
	}
	b.wantRefused("cluster.delete", "cluster/c1", "web")
	b.register("c2")
	wantCode(t, b.Delete(t.Context(), admin, "c2", "c1"), fleet.CodeInvalid)
	b.must(b.Delete(t.Context(), admin, "c2", "c2"))
	wantCode(t, b.Delete(t.Context(), admin, "c2", "c2"), fleet.CodeNotFound)
	wantCode(t, b.SetEnabled(t.Context(), admin, "c2", false), fleet.CodeNotFound)
	b.wantRefused("cluster.disable", "cluster/c2", "no such cluster")
}
