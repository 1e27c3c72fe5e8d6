package adapter

import (
	"slices"
	"testing"

	"portolan/internal/fleet"
)

// previews are what a preview says, by Kind/name.
func (w *world) previews(wl *fleet.Workload, spec *fleet.Spec) map[string]fleet.ObjectPreview {
	w.t.Helper()
	list, err := w.adapter.Preview(w.t.Context(), fleet.StepRequest{Cluster: w.cluster, Workload: *wl, Spec: *spec, Installation: w.installation})
	if err != nil {
		w.t.Fatal(err)
	}
	out := map[string]fleet.ObjectPreview{}
	for _, p := range list {
		out[p.Kind+"/"+p.Name] = p
	}
	return out
}

func TestAPreviewTellsWhatChanges(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, w *world) {
		wl, spec := w.demo("web")
		spec.Files = []fleet.File{{Path: "/etc/demo/a.conf", Content: "a"}}
		spec.Volumes = []fleet.Volume{{Name: "data", MountPath: "/data", Size: "1Gi"}}
		w.must(fleet.VerbDeploy, wl, spec, fleet.Params{})
		w.apply(wl, spec) // which has taken over the fields of all that was created
		actions := func() map[string]string {
			out := map[string]string{}
			for name, p := range w.previews(wl, spec) {
				out[name] = p.Action + p.Error
			}
			return out
		}
		for name, action := range actions() {
			if action != previewUnchanged {
				t.Errorf("%s, of which nothing is changed: %s", name, action)
			}
		}
		changes := func(change func(), names ...string) {
			t.Helper()
			change()
			// The API server tells a change by a time in seconds.
			eventually(t, "the preview tells the change", func() bool {
				got := actions()
				for name, action := range got {
					if slices.Contains(names, name) != (action == previewConfigure) {
						return false
					}
				}
				return true
			})
			w.apply(wl, spec)
		}
		changes(func() { spec.Files[0].Content = "b" }, "ConfigMap/web-files", "Deployment/web")
		changes(func() { spec.Ports[0].Number = 8081 }, "Service/web", "Deployment/web")
	})
}
