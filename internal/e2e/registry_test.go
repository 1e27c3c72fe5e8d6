package e2e

import (
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd/api"

	"portolan/internal/clustertest"
)

// refusedDeploy posts a deploy of each runtime to the place by hand, and
// checks that it is turned away with the reason and that nothing is made.
func refusedDeploy(t *testing.T, pl *place, reason string) {
	t.Helper()
	if pl.offered(t) {
		t.Errorf("%s is offered on the Deploy page", pl.id)
	}
	for _, runtime := range []string{"openclaw", "hermes", "container"} {
		answer := pl.post(t, "/deploy", pl.draft(clustertest.UniqueName("never"), fields{"runtime": runtime, "ports": ""}))
		if answer.status != http.StatusConflict || !answer.says(reason) {
			t.Errorf("%s to %s: %d, want 409 with %q\n%s", runtime, pl.id, answer.status, reason, clipped(answer.text()))
		}
	}
	if made := pl.objects(t); len(made) > 0 {
		t.Errorf("something was made: %v", made)
	}
}

// nowhere is the kubeconfig with a server at which nothing listens.
func nowhere(t testing.TB, raw []byte) []byte {
	return clustertest.Edit(t, raw, func(c *api.Config) {
		for _, cluster := range c.Clusters {
			cluster.Server = "https://127.0.0.1:1"
		}
	})
}

func TestB1OnlyTestedClustersAreTargets(t *testing.T) {
	t.Parallel()
	p := shared(t)

	t.Run("untested", func(t *testing.T) {
		t.Parallel()
		refusedDeploy(t, p.stake(t, real, real.kubeconfig(t), nil), "untested")
	})
	t.Run("failed", func(t *testing.T) {
		t.Parallel()
		pl := p.stake(t, real, nowhere(t, real.kubeconfig(t)), nil)
		pl.test(t, "failed")
		refusedDeploy(t, pl, "failed")
	})
	t.Run("disabled", func(t *testing.T) {
		t.Parallel()
		pl := p.settle(t, real, nil)
		if !pl.offered(t) {
			t.Fatal("tested, and not offered")
		}
		expect(t, pl.post(t, pl.path("/disable"), nil), http.StatusSeeOther)
		refusedDeploy(t, pl, "disabled")
		expect(t, pl.post(t, pl.path("/enable"), nil), http.StatusSeeOther)
		if !pl.offered(t) {
			t.Error("enabled again, and not offered")
		}
	})
	t.Run("changed", func(t *testing.T) {
		t.Parallel()
		pl := p.settle(t, real, nil)
		pl.edit(t, fields{"exposure_mode": "node-port", "runtime_host": "127.0.0.1"})
		refusedDeploy(t, pl, "changed since its test")
	})
}

func TestB2WhatMakesAClusterUntested(t *testing.T) {
	t.Parallel()
	p := shared(t)
	raw := real.kubeconfig(t)
	twoContexts := clustertest.Edit(t, raw, func(c *api.Config) {
		c.Contexts["another"] = c.Contexts[c.CurrentContext].DeepCopy()
	})

	cases := []struct {
		name    string
		changes func(t *testing.T, pl *place) fields
		want    string
	}{
		{"credential", func(t *testing.T, pl *place) fields {
			pl.mount(t, pl.id+"-other", append(slices.Clone(twoContexts), "\n# another file\n"...))
			return fields{"kubeconfig_path": pl.id + "-other"}
		}, "untested"},
		{"context", func(*testing.T, *place) fields { return fields{"context": "another"} }, "untested"},
		{"namespace", func(*testing.T, *place) fields { return fields{"namespace": clustertest.UniqueName("elsewhere")} }, "untested"},
		{"openclaw namespace", func(*testing.T, *place) fields {
			return fields{"openclaw_namespace": clustertest.UniqueName("elsewhere")}
		}, "untested"},
		{"hermes namespace", func(*testing.T, *place) fields {
			return fields{"hermes_namespace": clustertest.UniqueName("elsewhere")}
		}, "untested"},
		{"exposure", func(*testing.T, *place) fields { return fields{"exposure_mode": "load-balancer"} }, "untested"},
		{"label", func(*testing.T, *place) fields { return fields{"label": "Another label"} }, "ok"},
		{"region", func(*testing.T, *place) fields { return fields{"region": "the-moon-1"} }, "ok"},
		{"enabled", func(*testing.T, *place) fields { return fields{"enabled": ""} }, "ok"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			pl := p.stake(t, real, twoContexts, nil)
			pl.test(t, "ok")
			pl.edit(t, c.changes(t, pl))
			if got := pl.testState(t); got != c.want {
				t.Fatalf("after the edit: %s, want %s", got, c.want)
			}
			if c.want == "untested" {
				if pl.offered(t) {
					t.Error("changed, and offered")
				}
				// Longer than the poller that looks at mounted files takes.
				holds(t, 3*time.Second, "saving starts no test by itself", func() (bool, string) {
					state := pl.testState(t)
					return state == "untested", state
				})
			}
		})
	}
}

func TestB2AChangedFileIsTestedByItself(t *testing.T) {
	t.Parallel()
	pl := shared(t).settle(t, real, nil)
	raw := real.kubeconfig(t)

	// The deploy that is posted at once meets the check of its own.
	pl.mount(t, pl.id, nowhere(t, raw))
	form := pl.draft(clustertest.UniqueName("never"), nil)
	if answer := pl.post(t, "/deploy", form); answer.status != http.StatusConflict {
		t.Errorf("deploy just after the file changed: %d, want 409", answer.status)
	}
	eventually(t, patience, "the changed file to be tested by itself", func() (bool, string) {
		state := pl.testState(t)
		return state == "failed", state
	})
	if pl.offered(t) {
		t.Error("failed, and offered")
	}
	pl.mount(t, pl.id, append(slices.Clone(raw), "\n# rotated\n"...))
	eventually(t, patience, "the mended file to be tested by itself", func() (bool, string) {
		state := pl.testState(t)
		return state == "ok", state
	})
	if !pl.offered(t) {
		t.Error("tested by itself, and not offered")
	}
	if made := pl.objects(t); len(made) > 0 {
		t.Errorf("something was made: %v", made)
	}
}

func TestB2AChangedFileIsNoticedWhenTheWorkerStarts(t *testing.T) {
	t.Parallel()
	p := separate(t, nil) // no worker yet
	pl := p.settle(t, real, nil)
	op := pl.begin(t, pl.draft(clustertest.UniqueName("late"), nil))
	pl.mount(t, pl.id, nowhere(t, real.kubeconfig(t)))
	p.worker(t)
	failed := op.ends(t, "failed")
	if !failed.says("target") {
		t.Errorf("it does not say that the target changed: %s", clipped(failed.text()))
	}
	if made := pl.objects(t); len(made) > 0 {
		t.Errorf("something was made: %v", made)
	}
}

func TestB3AClusterInUseIsNotDeleted(t *testing.T) {
	t.Parallel()
	pl := shared(t).settle(t, real, nil)
	w := pl.deploy(t, nil)

	for _, confirm := range []string{"", pl.id} {
		answer := expect(t, pl.post(t, pl.path("/delete"), fields{"confirm": confirm}), http.StatusConflict)
		if !answer.says(w.name) {
			t.Errorf("the refusal does not name %s: %s", w.name, clipped(answer.text()))
		}
	}
	w.did(t, "delete", fields{"confirm": w.name})
	if answer := pl.post(t, pl.path("/delete"), fields{"confirm": "something else"}); answer.status != http.StatusUnprocessableEntity {
		t.Errorf("a wrong confirmation: %d, want 422", answer.status)
	}
	expect(t, pl.post(t, pl.path("/delete"), fields{"confirm": pl.id}), http.StatusSeeOther)
	expect(t, pl.get(t, pl.path("")), http.StatusNotFound)
}

func TestB4TheSecondSaveIsAConflict(t *testing.T) {
	t.Parallel()
	pl := shared(t).stake(t, real, real.kubeconfig(t), nil)
	mine, theirs := pl.editForm(t), pl.editForm(t)

	expect(t, pl.post(t, pl.path(""), theirs.but(fields{"label": "Theirs", "region": "north"})), http.StatusSeeOther)
	answer := expect(t, pl.post(t, pl.path(""), mine.but(fields{"label": "Mine"})), http.StatusConflict)
	if !answer.says("Theirs") {
		t.Errorf("the conflict does not show what changed: %s", clipped(answer.text()))
	}
	if now := pl.editForm(t); now["label"] != "Theirs" || now["region"] != "north" {
		t.Errorf("overwritten: label %q, region %q", now["label"], now["region"])
	}
	// The form that came back is made from the newest version.
	again, ok := answer.form(pl.path(""))
	if !ok || again["label"] != "Mine" {
		t.Fatalf("the input was not kept: %v", again)
	}
	expect(t, pl.post(t, pl.path(""), again), http.StatusSeeOther)
	if now := pl.editForm(t); now["label"] != "Mine" {
		t.Errorf("label %q after saving again", now["label"])
	}
}

func TestB5FoundKubeconfigsAreOffered(t *testing.T) {
	t.Parallel()
	p := shared(t)
	name := clustertest.UniqueName("found")
	p.mount(t, name, clustertest.Edit(t, real.kubeconfig(t), func(c *api.Config) {
		c.Contexts["a-second-one"] = c.Contexts[c.CurrentContext].DeepCopy()
	}))
	list := p.read(t, "/admin/clusters")
	if !list.says(name, "found", "not registered") {
		t.Fatalf("%s is not offered: %s", name, clipped(list.text()))
	}
	// One click leads to a form that is filled in, for each context.
	offered := func() map[string]fields {
		forms := map[string]fields{}
		for _, a := range elements(p.read(t, "/admin/clusters").root, "a") {
			href := attr(a, "href")
			if !strings.HasPrefix(href, "/admin/clusters/new?") || !strings.Contains(href, name) {
				continue
			}
			if f, ok := p.read(t, href).form("/admin/clusters"); ok {
				forms[f["context"]] = f
			}
		}
		return forms
	}
	forms := offered()
	if len(forms) != 2 || forms["a-second-one"] == nil {
		t.Fatalf("forms are offered for %v", slices.Sorted(maps.Keys(forms)))
	}
	for _, form := range forms {
		if form["kubeconfig_path"] != name || form["credential_mode"] != "mounted" || form["id"] == "" || form["label"] == "" {
			t.Errorf("the form is not filled in: %v", form)
		}
	}
	// Each stops being offered when it is registered.
	for context := range forms {
		id := clustertest.UniqueName("of-found")
		expect(t, p.post(t, "/admin/clusters", forms[context].but(fields{"id": id, "namespace": "default"})), http.StatusSeeOther)
		delete(forms, context)
		if left := offered(); !slices.Equal(slices.Sorted(maps.Keys(left)), slices.Sorted(maps.Keys(forms))) {
			t.Errorf("after %s was registered, %v are offered", context, slices.Sorted(maps.Keys(left)))
		}
	}
	if list := p.read(t, "/admin/clusters"); list.has("data-found", name) {
		t.Error("registered, and still offered as not registered")
	}
}

func TestB6ABlackHoleEndsWithinTheDeadline(t *testing.T) {
	t.Parallel()
	p := timely(t)
	ours := newAuthority(t)
	silent := https(t, ours.serving(t, time.Now().Add(time.Hour)), func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // only then the end of the connection is noticed
		<-r.Context().Done()
	})
	id := clustertest.UniqueName("silent")
	pl := &place{portolan: p, id: id}
	expect(t, p.post(t, "/admin/clusters", fields{
		"id": id, "label": id, "provider": "kubernetes", "credential_mode": "encrypted", "kubeconfig": string(ours.kubeconfig(t, silent)),
		"namespace": "default", "exposure_mode": "cluster-ip", "enabled": "true",
	}), http.StatusSeeOther)

	watch := p.open(t, pl.path("/stream"), "")
	var begun time.Time
	begin := func() {
		t.Helper()
		begun = time.Now()
		expect(t, p.post(t, pl.path("/test"), nil), http.StatusSeeOther)
		if took := time.Since(begun); took > testDeadline {
			t.Errorf("asking for the test took %v", took)
		}
	}
	ended := func() {
		t.Helper()
		if took := time.Since(begun); took > testDeadline+slack {
			t.Errorf("the test took %v, with a deadline of %v", took, testDeadline)
		}
		pl.tested(t, "failed")
	}
	begin()
	watch.until(t, patience, "progress on the stream", func(m message) bool {
		return attr(m.fragment().one("data-cluster", pl.id), "data-test-state") == "running"
	})
	// On a busy machine any page may be late, or the test over before it has been
	// read; one that waits for the cluster is late each time.
	for _, path := range []string{"/", "/admin/clusters", "/workloads", "/operations", pl.path("")} {
		limit := time.Now().Add(testDeadline + patience)
		var whileItRan []time.Duration
		for len(whileItRan) < 3 {
			if time.Now().After(limit) {
				t.Fatalf("%s was read only %d times while a test ran", path, len(whileItRan))
			}
			if pl.testState(t) != "running" {
				ended()
				begin()
				continue
			}
			asked := time.Now()
			p.read(t, path)
			if took := time.Since(asked); pl.testState(t) == "running" {
				whileItRan = append(whileItRan, took)
			}
		}
		if took := slices.Min(whileItRan); took > testDeadline/3 {
			t.Errorf("%s took %v and more while it ran", path, took)
		}
	}
	eventually(t, patience, "the end of the test", func() (bool, string) {
		state := pl.testState(t)
		return state != "running", state
	})
	ended()
	watch.until(t, patience, "the end on the stream", func(m message) bool {
		return attr(m.fragment().one("data-cluster", pl.id), "data-test-state") == "failed"
	})
}
