package observe_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"portolan/internal/clustertest"
	"portolan/internal/fleet"
	"portolan/internal/kube"
	"portolan/internal/kube/live"
	"portolan/internal/observe"
	"portolan/internal/postgres"
	"portolan/internal/postgres/postgrestest"
)

func TestMain(m *testing.M) { os.Exit(postgrestest.Main(m)) }

// scene is a cluster with an observer over a database.
type scene struct {
	t            *testing.T
	db           *postgres.DB
	store        counting
	look         kubernetes.Interface
	cluster      fleet.Cluster
	installation string
}

// stored is what the observer has stored.
type stored struct {
	sync.Mutex
	list []fleet.Observation
}

func (s *stored) all() []fleet.Observation {
	s.Lock()
	defer s.Unlock()
	return slices.Clone(s.list)
}

// counting is the store that the observer has.
type counting struct {
	*postgres.DB
	broken atomic.Int32 // times that a watch was stored as broken
	slow   atomic.Int32 // times that the store will still fail
	failed atomic.Bool  // it has, and no watch has begun since
	blamed atomic.Int32 // times that a watch was stored as broken then
	stored stored
}

func (c *counting) SaveObservation(ctx context.Context, holder string, o fleet.Observation, ended int64) error {
	if c.slow.Add(-1) >= 0 {
		c.failed.Store(true)
		return context.DeadlineExceeded
	}
	// Nobody sees the list before what the database has is in it.
	c.stored.Lock()
	defer c.stored.Unlock()
	err := c.DB.SaveObservation(ctx, holder, o, ended)
	if err == nil {
		c.stored.list = append(c.stored.list, o)
	}
	return err
}

// PinnedIdentity is what every watch begins with.
func (c *counting) PinnedIdentity(ctx context.Context, clusterID string) (fleet.ClusterIdentity, error) {
	c.failed.Store(false)
	return c.DB.PinnedIdentity(ctx, clusterID)
}

func (c *counting) MarkBroken(ctx context.Context, holder, clusterID, namespace, message string) error {
	if c.failed.Load() {
		c.blamed.Add(1)
	}
	err := c.DB.MarkBroken(ctx, holder, clusterID, namespace, message)
	if err == nil {
		c.broken.Add(1)
	}
	return err
}

type given struct{ raw []byte }

func (g given) Kubeconfig(context.Context, *fleet.Cluster) ([]byte, error) { return g.raw, nil }

func (given) CloudCredential(context.Context, *fleet.Cluster) (fleet.CloudCredential, error) {
	return fleet.CloudCredential{}, nil
}

// newScene starts an observer that speaks with the kubeconfig raw.
func newScene(t *testing.T, admin, raw []byte, opts observe.Options) *scene {
	t.Helper()
	db := postgrestest.New(t)
	db.Enqueue = func(context.Context, pgx.Tx, string, int64) error { return nil } // nobody works here
	installation, err := db.Installation(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	look := clustertest.Client(t, admin)
	s := &scene{t: t, db: db, store: counting{DB: db}, look: look, installation: installation, cluster: fleet.Cluster{
		ID: "k3s-test", Label: "Test", Provider: fleet.ProviderK3s, ClusterName: "test", Namespace: clustertest.Namespace(t, look),
		CredentialMode: fleet.CredentialMounted, KubeconfigPath: "k3s-test", CredentialHash: kube.Hash(raw), Enabled: true,
		Exposure: fleet.Exposure{Mode: fleet.ExposureClusterIP},
	}}
	if err := db.CreateCluster(t.Context(), s.cluster, nil, fleet.AuditEntry{}); err != nil {
		t.Fatal(err)
	}
	clients := kube.NewClients(given{raw}, kube.Options{Version: "test"})
	opts.Holder, opts.Installation = t.Name(), installation
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- observe.New(&s.store, clients, opts).Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		clients.Close()
	})
	return s
}

// workload makes a row and a Deployment for it.
func (s *scene) workload(name, namespace string, replicas int32) fleet.Workload {
	s.t.Helper()
	w := fleet.Workload{
		ID: uuid.NewString(), Name: name, ClusterID: s.cluster.ID, Namespace: namespace, Runtime: "container",
		Kind: fleet.KindDeployment, Release: 1, Replicas: replicas,
	}
	spec := fleet.Spec{Kind: fleet.KindDeployment, Image: "x", Replicas: replicas}
	if _, err := s.db.Begin(s.t.Context(), fleet.Begin{
		Workload: w, New: true, Release: &fleet.Release{WorkloadID: w.ID, Spec: spec},
		Operation: fleet.Operation{
			ID: uuid.NewString(), WorkloadID: w.ID, WorkloadName: name, ClusterID: w.ClusterID, Namespace: namespace, Runtime: w.Runtime,
			Verb: fleet.VerbDeploy, State: fleet.OperationQueued, Steps: []fleet.Step{{Name: fleet.StepObjects, State: fleet.StepPending}},
		},
	}); err != nil {
		s.t.Fatal(err)
	}
	labels := map[string]string{live.LabelManagedBy: live.Manager, live.LabelInstallation: s.installation, live.LabelWorkload: w.ID}
	_, err := s.look.AppsV1().Deployments(namespace).Create(s.t.Context(), &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels, Annotations: map[string]string{live.AnnotationRelease: "1"}},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: name, Image: "x"}}},
			},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
	return w
}

func (s *scene) observation(w fleet.Workload) *fleet.Observation {
	s.t.Helper()
	state, err := s.db.Workload(s.t.Context(), w.ID)
	if err != nil {
		s.t.Fatal(err)
	}
	return state.Observation
}

func (s *scene) deployment(w fleet.Workload) *appsv1.Deployment {
	s.t.Helper()
	d, err := s.look.AppsV1().Deployments(w.Namespace).Get(s.t.Context(), w.Name, metav1.GetOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
	return d
}

func (s *scene) scale(w fleet.Workload, patch string) {
	s.t.Helper()
	if _, err := s.look.AppsV1().Deployments(w.Namespace).Patch(s.t.Context(), w.Name, types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
		s.t.Fatal(err)
	}
}

// equal reports whether the observation is what the live object says.
func (s *scene) equal(w fleet.Workload) bool {
	o, d := s.observation(w), s.deployment(w)
	return o != nil && o.Exists && o.UID == string(d.UID) && o.Generation == d.Generation && o.ObservedGeneration == d.Status.ObservedGeneration &&
		o.Desired == *d.Spec.Replicas && o.Current == d.Status.Replicas && o.Ready == d.Status.ReadyReplicas &&
		o.Available == d.Status.AvailableReplicas && o.Updated == d.Status.UpdatedReplicas && o.Release == 1
}

// patience bounds what is over in a moment, on a machine that has much else to
// do.
const patience = 4 * time.Minute

func eventually(t *testing.T, what string, yes func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !yes() {
		select {
		case <-deadline:
			t.Fatalf("never: %s", what)
		case <-tick.C:
		}
	}
}

func TestB22_ObservationsEqualTheLiveObject(t *testing.T) {
	t.Parallel()
	_, raw := clustertest.Kubeconfig(t, "k3s", "kwok")
	s := newScene(t, raw, raw, observe.Options{ProbeEvery: time.Second})
	w := s.workload("web", s.cluster.Namespace, 2)
	settled := func(n int32) func() bool {
		return func() bool {
			o := s.observation(w)
			return o != nil && o.Available == n && len(o.Pods) == int(n) && s.equal(w) &&
				// What the pods' stream brings may be later than the Deployment's.
				!slices.ContainsFunc(o.Pods, func(p fleet.Pod) bool { return !p.Ready }) && o.Health == "Current" && o.Message == ""
		}
	}
	eventually(t, "two pods are shown", settled(2))
	s.scale(w, `{"spec":{"replicas":4}}`)
	eventually(t, "four pods are shown", settled(4))
	s.scale(w, `{"spec":{"replicas":0}}`)
	eventually(t, "no pod is shown", settled(0))

	// A workload in a namespace that nobody watched is seen soon.
	other := s.workload("web", clustertest.Namespace(t, s.look), 1)
	eventually(t, "the other namespace is watched", func() bool { o := s.observation(other); return o != nil && o.Available == 1 })

	// The age is that of the last proof of life, which quiet watches give too.
	before := s.observation(w).SeenAt
	eventually(t, "a quiet watch proves that it lives", func() bool { return s.observation(w).SeenAt.After(before) })

	// What was taken away by hand is seen to be gone.
	if err := s.look.AppsV1().Deployments(w.Namespace).Delete(t.Context(), w.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is seen to be gone", func() bool { return !s.observation(w).Exists })
}

// Services are not watched, and the next probe may be long in coming.
func TestANewWorkloadIsNotShownAvailableWithoutItsEndpoint(t *testing.T) {
	t.Parallel()
	_, raw := clustertest.Kubeconfig(t, "k3s", "kwok")
	s := newScene(t, raw, raw, observe.Options{ProbeEvery: time.Hour})
	first := s.workload("first", s.cluster.Namespace, 1)
	eventually(t, "the namespace is watched", func() bool { o := s.observation(first); return o != nil && o.Available == 1 })

	w := s.workload("web", s.cluster.Namespace, 1)
	labels := map[string]string{live.LabelManagedBy: live.Manager, live.LabelInstallation: s.installation, live.LabelWorkload: w.ID}
	if _, err := s.look.CoreV1().Services(w.Namespace).Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: w.Name, Labels: labels},
		Spec:       corev1.ServiceSpec{Selector: labels, Ports: []corev1.ServicePort{{Name: "http", Port: 80}}},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	s.scale(w, `{"spec":{"replicas":2}}`) // after the Service is there
	eventually(t, "two pods are shown", func() bool { o := s.observation(w); return o != nil && o.Available == 2 })
	if o := s.observation(w); len(o.Endpoints) != 1 {
		t.Errorf("it is shown available, with the endpoints %v", o.Endpoints)
	}
}

func TestB23_AnUnreachableClusterIsNotTakenForAnEmptyOne(t *testing.T) {
	t.Parallel()
	_, admin := clustertest.Kubeconfig(t, "k3s", "kwok")
	proxy, raw := clustertest.ThroughProxy(t, admin)
	s := newScene(t, admin, raw, observe.Options{ProbeEvery: 300 * time.Millisecond, MaxBackoff: time.Second})
	w := s.workload("web", s.cluster.Namespace, 2)
	eventually(t, "two pods are shown", func() bool { o := s.observation(w); return o != nil && o.Available == 2 })

	for name, fault := range map[string]func(){"silence": proxy.BlackHole, "resets": proxy.Reset} {
		fault()
		// It may have been broken before, by a slow machine, and be about to
		// store what a new list saw: what tries after it breaks now sees nothing.
		before := s.store.broken.Load()
		eventually(t, "the watch is known to be broken by "+name, func() bool { return s.store.broken.Load() > before })
		if u, err := s.db.Unreachable(t.Context(), s.cluster.ID, w.Namespace); err != nil || u.Error == "" {
			t.Errorf("during %s it is known that %+v, %v", name, u, err)
		}
		last := s.observation(w)
		want := 5 - last.Desired
		s.scale(w, `{"spec":{"replicas":`+strconv.Itoa(int(want))+`}}`)
		if o := s.observation(w); !o.Exists || o.Desired != last.Desired || o.Available != last.Available || !o.SeenAt.Equal(last.SeenAt) {
			t.Errorf("during %s it was observed that %+v", name, o)
		}
		proxy.Restore()
		eventually(t, "it heals by itself after "+name, func() bool {
			u, err := s.db.Unreachable(t.Context(), s.cluster.ID, w.Namespace)
			return err == nil && u.Error == "" && s.observation(w).Available == want && s.observation(w).SeenAt.After(last.SeenAt)
		})
	}
}

func TestASlowDatabaseIsNotTakenForASilentCluster(t *testing.T) {
	t.Parallel()
	_, admin := clustertest.Kubeconfig(t, "k3s", "kwok")
	s := newScene(t, admin, admin, observe.Options{MaxBackoff: time.Second, ProbeTime: time.Minute})
	s.store.slow.Store(3)
	w := s.workload("web", s.cluster.Namespace, 1)
	eventually(t, "the pod is shown", func() bool { o := s.observation(w); return o != nil && o.Available == 1 })
	// A slow machine may break a watch as well, at another time.
	if left, blamed := s.store.slow.Load(), s.store.blamed.Load(); left >= 0 || blamed > 0 {
		t.Errorf("%d times the cluster was said not to answer; the store would fail %d times more", blamed, left+1)
	}
}

func TestReadyPodsAreShownAtOnce(t *testing.T) {
	_, raw := clustertest.Kubeconfig(t, "k3s", "kwok")
	s := newScene(t, raw, raw, observe.Options{ProbeEvery: time.Hour}) // the streams alone bring it
	w := s.workload("web", s.cluster.Namespace, 1)
	eventually(t, "one pod is shown", func() bool { o := s.observation(w); return o != nil && o.Available == 1 })

	watch, err := s.look.CoreV1().Pods(w.Namespace).Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Stop()
	var took []time.Duration
	seen := map[types.UID]bool{}
	for n := int32(2); n <= 15; n++ {
		s.scale(w, `{"spec":{"replicas":`+strconv.Itoa(int(n))+`}}`)
		for ready := 0; ready == 0; {
			pod, ok := (<-watch.ResultChan()).Object.(*corev1.Pod)
			if !ok {
				t.Fatal("the watch has ended")
			}
			if seen[pod.UID] || !slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == "Ready" && c.Status == "True" }) {
				continue
			}
			seen[pod.UID] = true
			at := time.Now()
			eventually(t, "the pod is shown", func() bool {
				o := s.observation(w)
				return slices.ContainsFunc(o.Pods, func(p fleet.Pod) bool { return p.UID == string(pod.UID) && p.Ready })
			})
			took = append(took, time.Since(at))
			if len(seen) == int(n) {
				ready++
			}
		}
	}
	slices.Sort(took)
	t.Logf("from ready to written: median %s, most %s", took[len(took)/2], took[len(took)-1])
	// A busy machine makes some of them late, or many.
	if took[0] > 2*time.Second {
		t.Errorf("not one took less than %s", took[0])
	}
}

func TestAnotherClusterIsNotTakenForThisOne(t *testing.T) {
	t.Parallel()
	_, raw := clustertest.Kubeconfig(t, "k3s", "kwok")
	s := newScene(t, raw, raw, observe.Options{ProbeEvery: 50 * time.Millisecond, LeaseEvery: 50 * time.Millisecond, MaxBackoff: 50 * time.Millisecond})
	pin := func(uid string) {
		t.Helper()
		test := fleet.ConnectionTest{
			ClusterID: s.cluster.ID, Fingerprint: s.cluster.Fingerprint(), StartedAt: time.Now(), Deadline: time.Hour,
			Pinned: fleet.ClusterIdentity{Namespace: metav1.NamespaceSystem, UID: uid},
		}
		var err error
		if test.ID, err = s.db.BeginTest(t.Context(), test); err != nil {
			t.Fatal(err)
		}
		test.State = fleet.TestOK
		if err := s.db.SaveTest(t.Context(), test); err != nil {
			t.Fatal(err)
		}
	}
	pin("of-another-cluster")
	w := s.workload("web", s.cluster.Namespace, 1)
	eventually(t, "the watch says why it does not look", func() bool {
		u, err := s.db.Unreachable(t.Context(), s.cluster.ID, w.Namespace)
		return err == nil && strings.Contains(u.Error, "another cluster")
	})
	if o := s.observation(w); o != nil {
		t.Fatalf("observed there: %+v", o)
	}
	there, err := s.look.CoreV1().Namespaces().Get(t.Context(), metav1.NamespaceSystem, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	pin(string(there.UID))
	eventually(t, "it is watched", func() bool { o := s.observation(w); return o != nil && o.Exists })
}

// Evicted pods stay in a cluster by the thousand.
func TestOfEndedPodsOnlyTheNewestAreTold(t *testing.T) {
	t.Parallel()
	_, raw := clustertest.Kubeconfig(t, "k3s", "kwok")
	s := newScene(t, raw, raw, observe.Options{ProbeEvery: time.Second})
	w := s.workload("web", s.cluster.Namespace, 1)
	pods := s.look.CoreV1().Pods(w.Namespace)
	const evicted, shown = 15, 10
	for i := range evicted {
		name := fmt.Sprintf("evicted-%02d", i)
		if _, err := pods.Create(t.Context(), &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: s.deployment(w).Spec.Selector.MatchLabels},
			Spec:       corev1.PodSpec{SchedulerName: "none", Containers: []corev1.Container{{Name: "web", Image: "x"}}},
		}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		ended := fmt.Sprintf(`{"status":{"phase":"Failed","reason":"Evicted","startTime":"2026-11-01T10:%02d:00Z"}}`, i)
		if _, err := pods.Patch(t.Context(), name, types.MergePatchType, []byte(ended), metav1.PatchOptions{}, "status"); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the newest are shown, and the others counted", func() bool {
		o := s.observation(w)
		return o != nil && o.PodsOmitted == evicted-shown && len(o.Pods) == shown+1 && o.Available == 1 &&
			o.Pods[0].Ready && o.Pods[1].Name == fmt.Sprint("evicted-", evicted-1) && o.Pods[shown].Name == fmt.Sprintf("evicted-%02d", evicted-shown)
	})
	if err := pods.Delete(t.Context(), "evicted-00", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "one less is counted", func() bool { return s.observation(w).PodsOmitted == evicted-shown-1 })
}
