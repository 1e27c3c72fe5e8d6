package observe_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"portolan/internal/clustertest"
	"portolan/internal/fleet"
	"portolan/internal/observe"
)

// state returns the row of a workload with its latest operation.
func (s *scene) state(w fleet.Workload) fleet.WorkloadState {
	s.t.Helper()
	state, err := s.db.Workload(s.t.Context(), w.ID)
	if err != nil {
		s.t.Fatal(err)
	}
	return state
}

// begin begins another operation on a workload, which is changed to w.
func (s *scene) begin(w fleet.Workload) {
	s.t.Helper()
	w.UpdatedAt = time.Time{}
	if _, err := s.db.Begin(s.t.Context(), fleet.Begin{Workload: w, Operation: fleet.Operation{
		ID: uuid.NewString(), WorkloadID: w.ID, WorkloadName: w.Name, ClusterID: w.ClusterID, Namespace: w.Namespace,
		Runtime: w.Runtime, Verb: fleet.VerbRedeploy, State: fleet.OperationQueued,
	}}); err != nil {
		s.t.Fatal(err)
	}
}

// end ends the operation on a workload with what its last step has seen.
func (s *scene) end(w fleet.Workload, seen fleet.Observation) {
	s.t.Helper()
	op := s.state(w).Operation
	if _, err := s.db.Claim(s.t.Context(), op.ID, op.Token); err != nil {
		s.t.Fatal(err)
	}
	if err := s.db.Record(s.t.Context(), op.ID, op.Token, fleet.Change{Finish: fleet.OperationSucceeded, Observation: &seen}); err != nil {
		s.t.Fatal(err)
	}
}

func TestALateWatchDoesNotLeadBackBehindAnOperation(t *testing.T) {
	t.Parallel()
	_, raw := clustertest.Kubeconfig(t, "k3s", "kwok")
	late, through := clustertest.WithLateWatches(t, raw)
	s := newScene(t, raw, through, observe.Options{ProbeEvery: time.Hour, Coalesce: time.Nanosecond})
	w := s.workload("web", s.cluster.Namespace, 2)
	eventually(t, "two pods are shown", func() bool {
		o := s.observation(w)
		return o != nil && o.Available == 2 && len(o.Pods) == 2 && s.equal(w)
	})

	late.Hold()
	s.scale(w, `{"spec":{"replicas":0}}`)
	eventually(t, "no pod is left", func() bool {
		pods, err := s.look.CoreV1().Pods(w.Namespace).List(t.Context(), metav1.ListOptions{})
		d := s.deployment(w)
		return err == nil && len(pods.Items) == 0 && d.Status.Replicas == 0 && d.Status.ObservedGeneration == d.Generation
	})
	d := s.deployment(w)
	seen := fleet.Observation{
		Exists: true, UID: string(d.UID), Generation: d.Generation, ObservedGeneration: d.Generation, Release: 1, Health: "Current",
	}
	s.end(w, seen)
	before := len(s.store.stored.all())

	// What the watch tells now is from before the end.
	late.Pass("deployments")
	eventually(t, "the workload is read anew", func() bool { return len(s.store.stored.all()) > before })
	late.Pass("pods")
	s.scale(w, `{"spec":{"replicas":1}}`)
	late.Release("deployments")
	eventually(t, "what is from after the end is shown", func() bool { return s.observation(w).Desired == 1 })
	for _, o := range s.store.stored.all()[before:] {
		if len(o.Pods) > 0 || o.Current > o.Desired {
			t.Errorf("after it had ended without a pod it was stored that %+v", o)
		}
	}
	late.Release("pods")
	eventually(t, "one pod is shown", func() bool {
		o := s.observation(w)
		return len(o.Pods) == 1 && o.Available == 1 && s.equal(w)
	})
}

func TestWhatAStepHasSeenIsReadAnew(t *testing.T) {
	t.Parallel()
	_, raw := clustertest.Kubeconfig(t, "k3s", "kwok")
	s := newScene(t, raw, raw, observe.Options{ProbeEvery: 200 * time.Millisecond})
	first := s.workload("first", s.cluster.Namespace, 1)
	second := s.workload("second", s.cluster.Namespace, 2)
	right := func(w fleet.Workload, pods int) func() bool {
		return func() bool {
			o := s.observation(w)
			return o != nil && s.equal(w) && len(o.Pods) == pods && int(o.Available) == pods &&
				!slices.ContainsFunc(o.Pods, func(p fleet.Pod) bool { return !p.Ready })
		}
	}
	eventually(t, "the first is shown", right(first, 1))
	eventually(t, "the second is shown", right(second, 2))
	for again := range 2 { // nothing changes there between
		for _, w := range []fleet.Workload{first, second} {
			if again > 0 {
				s.begin(w)
			}
			old := *s.observation(w)
			old.Available, old.Pods = 0, nil // since then they have become ready, and the watch has stored it before
			s.end(w, old)
		}
		eventually(t, "the first is shown as it is", right(first, 1))
		eventually(t, "the second is shown as it is", right(second, 2))
	}
}

func TestAKindThatTakesTheOnlyOnesPlaceIsWatched(t *testing.T) {
	t.Parallel()
	_, raw := clustertest.Kubeconfig(t, "k3s", "kwok")
	s := newScene(t, raw, raw, observe.Options{ProbeEvery: 200 * time.Millisecond})
	w := s.workload("web", s.cluster.Namespace, 1)
	eventually(t, "one pod is shown", func() bool { o := s.observation(w); return o != nil && o.Available == 1 })

	s.end(w, fleet.Observation{})
	eventually(t, "it is read anew", func() bool { return s.observation(w).Exists })
	d := s.deployment(w)
	if err := s.look.AppsV1().Deployments(w.Namespace).Delete(t.Context(), w.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.Kind = fleet.KindStatefulSet
	s.begin(w)
	set, err := s.look.AppsV1().StatefulSets(w.Namespace).Create(t.Context(), &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Name: w.Name, Labels: d.Labels},
		Spec:       appsv1.StatefulSetSpec{Replicas: d.Spec.Replicas, Selector: d.Spec.Selector, Template: d.Spec.Template},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the other kind is shown", func() bool {
		o := s.observation(w)
		return o.UID == string(set.UID) && o.Available == 1
	})
}
