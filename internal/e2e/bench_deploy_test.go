package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"

	"portolan/internal/clustertest"
)

// simulated is a profile whose pods are ready at once: what is measured on it
// is not the start of containers.
var simulated = profile{"k3s", "kwok"}

const instanceLabel = "app.kubernetes.io/instance"

// benchDeploy compares the time from POST /deploy until the three objects are
// there, as a watch sees them, with the time that kubectl takes to apply them.
func benchDeploy(b *testing.B, x *bench) {
	const warmUps, rounds = 3, 15
	pl := x.portolan(b).settle(b, simulated, nil)
	seen := pl.watchObjects(b)
	alternative := newKubectl(b, pl)

	deploy := func() (objects time.Duration, name string) {
		name = clustertest.UniqueName("demo")
		form := pl.draft(name, probed.but(fields{"file_path_1": "/etc/demo/settings.yaml", "file_content_1": "greeting: hello\n"}))
		begun := time.Now()
		op := pl.begin(b, form)
		objects = seen.await(b, name+" Deployment", name+" Service", name+" ConfigMap").Sub(begun)
		op.ends(b, "succeeded")
		return objects, name
	}
	_, first := deploy()
	manifest := pl.manifest(b, first)
	apply := func() time.Duration {
		name := clustertest.UniqueName("demo")
		path := filepath.Join(alternative.home, name+".json")
		if err := os.WriteFile(path, bytes.ReplaceAll(manifest, []byte(first), []byte(name)), 0o600); err != nil {
			b.Fatal(err)
		}
		took := alternative.run(b, "apply", "-f", path)
		seen.await(b, name+" Deployment", name+" Service", name+" ConfigMap")
		eventually(b, patience, name+" rolled out", func() (bool, string) {
			d, err := pl.kubectl.AppsV1().Deployments(pl.namespace).Get(b.Context(), name, metav1.GetOptions{})
			if err != nil {
				return false, err.Error()
			}
			return settled(d)
		})
		return took
	}

	var ours, theirs, start []time.Duration
	for i := range warmUps + rounds {
		a, _ := deploy()
		c := apply()
		d := alternative.run(b, "version", "--client")
		if i >= warmUps {
			ours, theirs, start = append(ours, a), append(theirs, c), append(start, d)
		}
	}
	ratio := float64(median(ours)) / float64(median(theirs))
	x.report(b, line{
		what: "POST /deploy until three objects exist ÷ kubectl apply",
		measured: fmt.Sprintf("%s (p90 %s); kubectl %s, of which %s to start",
			ms(median(ours)), ms(percentile(ours, 0.9)), ms(median(theirs)), ms(median(start))),
		result: fmt.Sprintf("%.2f", ratio), aim: "≤ 0.5", met: ratio <= 0.5,
	}, map[string]float64{"deploy-ms": millis(median(ours)), "kubectl-ms": millis(median(theirs)), "deploy/kubectl": ratio})
}

// watchObjects notes when each object of the three kinds appears in the
// place's namespace, as “<instance> <kind>”.
func (pl *place) watchObjects(b *testing.B) *times {
	b.Helper()
	seen := newTimes()
	follow := func(kind string, w watch.Interface, err error) {
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(w.Stop)
		go func() {
			for e := range w.ResultChan() {
				at := time.Now()
				if o, err := meta.Accessor(e.Object); err == nil && e.Type == watch.Added {
					seen.add(o.GetLabels()[instanceLabel]+" "+kind, at)
				}
			}
		}()
	}
	ctx, all := b.Context(), metav1.ListOptions{}
	w, err := pl.kubectl.AppsV1().Deployments(pl.namespace).Watch(ctx, all)
	follow("Deployment", w, err)
	w, err = pl.kubectl.CoreV1().Services(pl.namespace).Watch(ctx, all)
	follow("Service", w, err)
	w, err = pl.kubectl.CoreV1().ConfigMaps(pl.namespace).Watch(ctx, all)
	follow("ConfigMap", w, err)
	return seen
}

// manifest returns the objects of a workload as a person would have written
// them: without what the API server adds, and not marked as Portolan's.
func (pl *place) manifest(b *testing.B, name string) []byte {
	b.Helper()
	ctx, mine := b.Context(), metav1.ListOptions{LabelSelector: instanceLabel + "=" + name}
	var items []runtime.Object
	keep := func(o *metav1.ObjectMeta) {
		*o = metav1.ObjectMeta{Name: o.Name, Labels: o.Labels, Annotations: o.Annotations}
	}
	deployments, err := pl.kubectl.AppsV1().Deployments(pl.namespace).List(ctx, mine)
	if err != nil {
		b.Fatal(err)
	}
	for _, o := range deployments.Items {
		keep(&o.ObjectMeta)
		o.TypeMeta, o.Status = metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"}, apps.DeploymentStatus{}
		items = append(items, &o)
	}
	services, err := pl.kubectl.CoreV1().Services(pl.namespace).List(ctx, mine)
	if err != nil {
		b.Fatal(err)
	}
	for _, o := range services.Items {
		keep(&o.ObjectMeta)
		o.TypeMeta, o.Status = metav1.TypeMeta{APIVersion: "v1", Kind: "Service"}, core.ServiceStatus{}
		o.Spec.ClusterIP, o.Spec.ClusterIPs = "", nil
		items = append(items, &o)
	}
	maps, err := pl.kubectl.CoreV1().ConfigMaps(pl.namespace).List(ctx, mine)
	if err != nil {
		b.Fatal(err)
	}
	for _, o := range maps.Items {
		keep(&o.ObjectMeta)
		o.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}
		items = append(items, &o)
	}
	if len(items) != 3 {
		b.Fatalf("%s has %d objects, not three", name, len(items))
	}
	text, err := json.Marshal(map[string]any{"apiVersion": "v1", "kind": "List", "items": items})
	if err != nil {
		b.Fatal(err)
	}
	return []byte(strings.NewReplacer(`"portolan.dev/`, `"example.com/`, `managed-by":"portolan"`, `managed-by":"kubectl"`).Replace(string(text)))
}

// kubectl is the alternative: a fresh process each time, with a home of its own
// that keeps what kubectl has discovered.
type kubectl struct {
	binary, home, namespace string
	env                     []string
}

func newKubectl(b *testing.B, pl *place) *kubectl {
	b.Helper()
	binary, err := filepath.Abs(filepath.Join(moduleRoot, "bin", "devcluster"))
	if err != nil {
		b.Fatal(err)
	}
	home := b.TempDir()
	config := filepath.Join(home, "config")
	if err := os.WriteFile(config, pl.on.kubeconfig(b), 0o600); err != nil {
		b.Fatal(err)
	}
	return &kubectl{binary: binary, home: home, namespace: pl.namespace, env: append(os.Environ(), "HOME="+home, "KUBECONFIG="+config)}
}

func (k *kubectl) command(args ...string) *exec.Cmd {
	cmd := exec.Command(k.binary, append([]string{"kubectl", "--namespace", k.namespace}, args...)...)
	cmd.Env = k.env
	return cmd
}

// run returns how long kubectl took.
func (k *kubectl) run(b *testing.B, args ...string) time.Duration {
	b.Helper()
	cmd := k.command(args...)
	begun := time.Now()
	out, err := cmd.CombinedOutput()
	took := time.Since(begun)
	if err != nil {
		b.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return took
}
