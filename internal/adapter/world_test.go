package adapter

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"portolan/internal/clustertest"
	"portolan/internal/fleet"
	"portolan/internal/kube"
)

// world is one cluster as the adapter sees it, and as an onlooker does.
type world struct {
	t            *testing.T
	real         bool // its node runs containers
	raw          []byte
	look         kubernetes.Interface
	cluster      fleet.Cluster
	adapter      *Adapter
	installation string
}

// given is a Source of one kubeconfig.
type given struct{ raw []byte }

func (g given) Kubeconfig(context.Context, *fleet.Cluster) ([]byte, error) { return g.raw, nil }

func (given) CloudCredential(context.Context, *fleet.Cluster) (fleet.CloudCredential, error) {
	return fleet.CloudCredential{}, nil
}

// Every profile that the adapter must behave the same on; k3s with a real node.
var profiles = []struct{ profile, nodes string }{{"k3s", "containerd"}, {"aks", "kwok"}, {"gke", "kwok"}, {"eks", "kwok"}}

// everywhere runs a fact on every profile.
func everywhere(t *testing.T, fact func(*testing.T, *world)) {
	for _, p := range profiles {
		t.Run(p.profile, func(t *testing.T) {
			t.Parallel()
			fact(t, newWorld(t, p.profile, p.nodes))
		})
	}
}

func newWorld(t *testing.T, profile, nodes string) *world {
	t.Helper()
	_, raw := clustertest.Kubeconfig(t, profile, nodes)
	look := clustertest.Client(t, raw)
	w := &world{t: t, real: nodes == "containerd", raw: raw, look: look, installation: clustertest.UniqueName("inst")}
	w.cluster = fleet.Cluster{
		ID: profile + "-test", Label: profile, Provider: fleet.Provider(profile), ClusterName: profile,
		CredentialMode: fleet.CredentialMounted, Namespace: clustertest.Namespace(t, look), Enabled: true,
	}
	if profile == "k3s" {
		w.cluster.Exposure = fleet.Exposure{Mode: fleet.ExposureNodePort, RuntimeHost: "127.0.0.1"}
	} else {
		w.cluster.Exposure = fleet.Exposure{Mode: fleet.ExposureLoadBalancer, LoadBalancerTimeout: patience}
	}
	w.use(raw, Options{})
	return w
}

// use makes the adapter speak with a kubeconfig.
func (w *world) use(raw []byte, opts Options) {
	w.cluster.CredentialHash = kube.Hash(raw)
	clients := kube.NewClients(given{raw}, kube.Options{Version: "test"})
	w.t.Cleanup(clients.Close)
	w.adapter = New(clients, opts)
}

// demo is a workload that runs on a real node, and anywhere else.
func (w *world) demo(name string) (*fleet.Workload, *fleet.Spec) {
	wl := &fleet.Workload{
		ID: uuid.NewString(), Name: name, ClusterID: w.cluster.ID, Namespace: w.cluster.Namespace,
		Runtime: "container", Kind: fleet.KindDeployment, Release: 1, Replicas: 1,
	}
	spec := &fleet.Spec{
		Kind: fleet.KindDeployment, Image: "portolan.dev/demo:1", Replicas: 1,
		Ports:     []fleet.Port{{Name: "runtime", Number: 8080}},
		Resources: fleet.Resources{CPU: "20m", Memory: "32Mi"},
		Health:    &fleet.HealthCheck{Type: "http", Port: "runtime", Path: "/health", PeriodSeconds: 1},
	}
	return wl, spec
}

// story is what an operation came to.
type story struct {
	operation fleet.Operation
	events    []fleet.Event
	last      fleet.StepResult
	replicas  *int32
	err       error
}

func (s *story) says(text string) bool {
	return slices.ContainsFunc(s.events, func(e fleet.Event) bool { return strings.Contains(e.Message, text) })
}

func (s *story) failure() *fleet.Failure {
	var f *fleet.Failure
	errors.As(s.err, &f)
	return f
}

// try drives an operation to its end as the engine does, slice by slice.
func (w *world) try(verb fleet.Verb, wl *fleet.Workload, spec *fleet.Spec, params fleet.Params) *story {
	w.t.Helper()
	return w.drive(newOperation(verb, wl, params), wl, spec, nil)
}

func newOperation(verb fleet.Verb, wl *fleet.Workload, params fleet.Params) fleet.Operation {
	op := fleet.Operation{
		ID: uuid.NewString(), WorkloadID: wl.ID, WorkloadName: wl.Name, ClusterID: wl.ClusterID, Namespace: wl.Namespace,
		Runtime: wl.Runtime, Verb: verb, Params: params, CreatedAt: time.Now(),
	}
	for _, name := range fleet.Steps(verb) {
		op.Steps = append(op.Steps, fleet.Step{Name: name, State: fleet.StepPending})
	}
	return op
}

func (w *world) drive(op fleet.Operation, wl *fleet.Workload, spec *fleet.Spec, secrets map[string]string) *story {
	w.t.Helper()
	s := &story{operation: op}
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	for i := range op.Steps {
		step := op.Steps[i]
		step.StartedAt = time.Now()
		for {
			if ctx.Err() != nil {
				w.t.Fatalf("%s stands at %s: %s", op.Verb, step.Name, s.last.Message)
			}
			result, err := w.adapter.Do(ctx, fleet.StepRequest{
				Operation: op, Step: step, Cluster: w.cluster, Workload: *wl, Spec: *spec, Secrets: secrets, Installation: w.installation,
			}, 2*time.Second)
			s.events = append(s.events, result.Events...)
			s.last = result
			if result.Replicas != nil {
				s.replicas = result.Replicas
			}
			if err != nil {
				if s.err = err; s.failure() != nil {
					return s
				}
				w.t.Logf("%s: trying again after: %v", step.Name, err)
				s.err = nil
				select {
				case <-time.After(200 * time.Millisecond): // as the engine does
				case <-ctx.Done():
				}
				continue
			}
			if result.Done {
				break
			}
		}
	}
	return s
}

// made drives a deployment until its objects are there, and returns what is left
// of it: to wait for the rollout.
func (w *world) made(wl *fleet.Workload, spec *fleet.Spec) fleet.Operation {
	w.t.Helper()
	op := newOperation(fleet.VerbDeploy, wl, fleet.Params{})
	at := slices.IndexFunc(op.Steps, func(s fleet.Step) bool { return s.Name == fleet.StepRollout })
	first, rest := op, op
	first.Steps, rest.Steps = op.Steps[:at], op.Steps[at:]
	if s := w.drive(first, wl, spec, nil); s.err != nil {
		w.t.Fatal(describe(s.err))
	}
	return rest
}

// must drives an operation that has to succeed.
func (w *world) must(verb fleet.Verb, wl *fleet.Workload, spec *fleet.Spec, params fleet.Params) *story {
	w.t.Helper()
	s := w.try(verb, wl, spec, params)
	if s.err != nil {
		w.t.Fatalf("%s failed: %s", verb, describe(s.err))
	}
	return s
}

func describe(err error) string {
	var f *fleet.Failure
	if errors.As(err, &f) {
		return fmt.Sprintf("%s: %s\nobject %s\nevents %q\nlogs %q", f.Reason, f.Message, f.Object, f.Events, f.Logs)
	}
	return err.Error()
}

func (w *world) deployment(wl *fleet.Workload) *appsv1.Deployment {
	w.t.Helper()
	d, err := w.look.AppsV1().Deployments(wl.Namespace).Get(w.t.Context(), wl.Name, metav1.GetOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	return d
}

func (w *world) service(wl *fleet.Workload) *corev1.Service {
	w.t.Helper()
	s, err := w.look.CoreV1().Services(wl.Namespace).Get(w.t.Context(), wl.Name, metav1.GetOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

func (w *world) pods(wl *fleet.Workload) []corev1.Pod {
	w.t.Helper()
	list, err := w.look.CoreV1().Pods(wl.Namespace).List(w.t.Context(), metav1.ListOptions{LabelSelector: "portolan.dev/workload=" + wl.ID})
	if err != nil {
		w.t.Fatal(err)
	}
	return list.Items
}

// patience is how long a busy machine may take for what is sure to come.
const patience = 5 * time.Minute

// eventually waits for a condition.
func eventually(t *testing.T, what string, yes func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !yes() {
		select {
		case <-deadline:
			t.Fatalf("never: %s", what)
		case <-tick.C:
		}
	}
}

func absent(t *testing.T, what string, err error) {
	t.Helper()
	if !apierrors.IsNotFound(err) {
		t.Errorf("%s is still there (%v)", what, err)
	}
}
