package adapter

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"portolan/internal/fleet"
	"portolan/internal/kube/live"
)

// limit puts a quota on the namespace and waits until it counts.
func (w *world) limit(what corev1.ResourceName, most string) (lift func()) {
	w.t.Helper()
	quotas := w.look.CoreV1().ResourceQuotas(w.cluster.Namespace)
	quota, err := quotas.Create(w.t.Context(), &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "tight-"},
		Spec:       corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{what: resource.MustParse(most)}},
	}, metav1.CreateOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	eventually(w.t, "the quota counts", func() bool {
		now, err := quotas.Get(w.t.Context(), quota.Name, metav1.GetOptions{})
		return err == nil && len(now.Status.Hard) > 0
	})
	return func() {
		w.t.Helper()
		if err := quotas.Delete(w.t.Context(), quota.Name, metav1.DeleteOptions{}); err != nil {
			w.t.Fatal(err)
		}
	}
}

// A ReplicaSet tries again at intervals that double, and its condition keeps the
// words of the first refusal all the while.
func TestARefusalIsJudgedByTheLastTry(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "k3s", "kwok")
	accounts := w.look.CoreV1().ServiceAccounts(w.cluster.Namespace)
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	allow := w.limit("count/serviceaccounts", "0")
	eventually(t, "no account to be there", func() bool {
		if err := accounts.Delete(t.Context(), account.Name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			t.Fatal(err)
		}
		_, err := accounts.Create(t.Context(), account, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if !apierrors.IsForbidden(err) {
			return false
		}
		// The controller may have made it just before the quota counted.
		_, err = accounts.Get(t.Context(), account.Name, metav1.GetOptions{})
		return apierrors.IsNotFound(err)
	})
	wl, spec := w.demo("web")
	j := &job{opts: w.adapter.opts}
	j.Operation = w.made(wl, spec)
	client, err := w.adapter.clients.Get(t.Context(), &w.cluster)
	if err != nil {
		t.Fatal(err)
	}
	j.api = client.API
	j.Cluster, j.Workload, j.Spec, j.Installation = w.cluster, *wl, *spec, w.installation
	// causeAt returns what is said so long after a rollout that began at a time.
	causeAt := func(begun time.Time, after time.Duration) *fleet.Failure {
		t.Helper()
		j.Step = fleet.Step{Name: fleet.StepRollout, StartedAt: begun}
		j.now = func() time.Time { return begun.Add(after) }
		s, _, _, err := sight(t.Context(), j)
		if err != nil {
			t.Fatal(err)
		}
		return j.cause(t.Context(), s)
	}
	refused := func(text string) {
		t.Helper()
		eventually(t, "a refusal: "+text, func() bool {
			events, err := w.look.CoreV1().Events(wl.Namespace).List(t.Context(), metav1.ListOptions{FieldSelector: "reason=FailedCreate"})
			if err != nil {
				t.Fatal(err)
			}
			told := slices.ContainsFunc(w.deployment(wl).Status.Conditions, func(c appsv1.DeploymentCondition) bool {
				return c.Type == appsv1.DeploymentReplicaFailure && strings.Contains(c.Message, "error looking up service account")
			})
			return told && slices.ContainsFunc(events.Items, func(e corev1.Event) bool { return strings.Contains(e.Message, text) })
		})
	}

	begun := j.Operation.CreatedAt
	refused("error looking up service account")
	// However long ago it began, the last try was early.
	if f := causeAt(begun, controllersAfter+time.Second); f != nil && time.Since(begun) < controllersAfter {
		t.Errorf("failed by a refusal that may have mended itself: %+v", f)
	}
	eventually(t, "a failure by a refusal that lasts", func() bool {
		f := causeAt(begun.Add(-2*controllersAfter), 2*controllersAfter)
		return f != nil && strings.Contains(f.Message, "service account")
	})

	// The account comes, but then something else is in the way.
	w.limit("pods", "0")
	allow()
	eventually(t, "the account", func() bool {
		_, err := accounts.Create(t.Context(), account, metav1.CreateOptions{})
		return err == nil || apierrors.IsAlreadyExists(err)
	})
	refused("exceeded quota")
	eventually(t, "a failure by the quota", func() bool {
		f := causeAt(begun, refusedFor)
		return f != nil && f.Reason == reasonQuota && strings.Contains(f.Message, "exceeded quota")
	})
}

// The time in which no container could begin is not one in which its image or
// its node was tried.
func TestPatienceWithAContainerBeginsWhenItCanBegin(t *testing.T) {
	t.Parallel()
	born := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	at := func(seconds int, kind, status string) live.Condition {
		return live.Condition{Type: kind, Status: status, LastTransitionTime: born.Add(time.Duration(seconds) * time.Second)}
	}
	for name, c := range map[string]struct {
		reason     string
		conditions []live.Condition
		after      int // seconds, since the pod was made
		final      bool
	}{
		"pulled for long":           {"ImagePullBackOff", []live.Condition{at(0, "PodScheduled", "True")}, 25, true},
		"pulled once":               {"ErrImagePull", []live.Condition{at(0, "PodScheduled", "True")}, 60, false},
		"after a wait for a node":   {"ImagePullBackOff", []live.Condition{at(120, "PodScheduled", "True")}, 130, false},
		"and then for long":         {"ImagePullBackOff", []live.Condition{at(120, "PodScheduled", "True")}, 145, true},
		"after its init containers": {"CreateContainerConfigError", []live.Condition{at(0, "PodScheduled", "True"), at(60, "Initialized", "True")}, 70, false},
		"blocked for long":          {"CreateContainerConfigError", []live.Condition{at(0, "PodScheduled", "True"), at(60, "Initialized", "True")}, 75, true},
		"an init container of it":   {"CreateContainerConfigError", []live.Condition{at(0, "PodScheduled", "True"), at(60, "Initialized", "False")}, 70, true},
		"after a wait for a volume": {"ImagePullBackOff", []live.Condition{at(0, "PodScheduled", "True"), at(60, "PodReadyToStartContainers", "True")}, 70, false},
	} {
		j := &job{opts: Options{}.withDefaults(), now: func() time.Time { return born.Add(time.Duration(c.after) * time.Second) }}
		p := &live.Pod{Meta: live.Meta{Name: "web", CreationTimestamp: born}}
		p.Status.Conditions = c.conditions
		if final := j.final(t.Context(), live.Sight{}, &live.Trouble{Reason: c.reason, Pod: p}); final != c.final {
			t.Errorf("%s: final %t after %d s", name, final, c.after)
		}
	}
}

// What an update is about to replace says nothing about whether it will succeed,
// also while the controller has taken the update up but made no pod of it yet.
func TestTheTroubleOfOlderPodsIsNotFinal(t *testing.T) {
	t.Parallel()
	const uid = "of-the-deployment"
	for name, c := range map[string]struct {
		sets    string // as the API server lists them
		updated int32
		final   bool
	}{
		"recreated, and nothing made yet": {`{"metadata":{"name":"web-old","labels":{"pod-template-hash":"old"},"annotations":{"deployment.kubernetes.io/revision":"2"},"ownerReferences":[{"uid":"of-the-deployment"}]}}`, 0, false},
		"back to the pods of before that": {`{"metadata":{"name":"web-old","labels":{"pod-template-hash":"old"},"annotations":{"deployment.kubernetes.io/revision":"2"},"ownerReferences":[{"uid":"of-the-deployment"}]}},
			{"metadata":{"name":"web-good","labels":{"pod-template-hash":"good"},"annotations":{"deployment.kubernetes.io/revision":"10"},"ownerReferences":[{"uid":"of-the-deployment"}]}}`, 1, false},
		"a Deployment before this one": {`{"metadata":{"name":"web-old","labels":{"pod-template-hash":"old"},"annotations":{"deployment.kubernetes.io/revision":"2"},"ownerReferences":[{"uid":"of-the-deployment"}]}},
			{"metadata":{"name":"web-good","labels":{"pod-template-hash":"good"},"annotations":{"deployment.kubernetes.io/revision":"10"},"ownerReferences":[{"uid":"of-another"}]}}`, 1, true},
		"its own": {`{"metadata":{"name":"web-old","labels":{"pod-template-hash":"old"},"annotations":{"deployment.kubernetes.io/revision":"2"},"ownerReferences":[{"uid":"of-the-deployment"}]}}`, 1, true},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			items := ""
			if strings.HasSuffix(r.URL.Path, "/replicasets") {
				items = c.sets
			}
			_, _ = io.WriteString(w, `{"metadata":{},"items":[`+items+`]}`)
		}))
		t.Cleanup(server.Close)
		api, err := live.NewAPI(&rest.Config{Host: server.URL, QPS: 50, Burst: 100}, server.Client())
		if err != nil {
			t.Fatal(err)
		}
		j := &job{api: api, opts: Options{}.withDefaults(), now: time.Now}
		j.Workload.Name, j.Workload.Namespace, j.Workload.Kind = "web", "apps", fleet.KindDeployment
		pod := live.Pod{Meta: live.Meta{Name: "web-old-1", UID: "1", Labels: live.Labels{PodTemplateHash: "old"}}}
		status := live.ContainerStatus{Name: "web", RestartCount: 5}
		status.State.Waiting = &struct {
			Reason  string `json:"reason"`
			Message string `json:"message"`
		}{Reason: "CrashLoopBackOff"}
		pod.Status.ContainerStatuses = []live.ContainerStatus{status}
		controller := &live.Controller{Meta: live.Meta{Name: "web", UID: uid, Annotations: live.Annotations{Revision: "2"}}}
		controller.Status.UpdatedReplicas = c.updated
		failure := j.cause(t.Context(), live.Sight{Kind: fleet.KindDeployment, Controller: controller, Pods: []live.Pod{pod}})
		if (failure != nil) != c.final {
			t.Errorf("%s: it fails with %+v", name, failure)
		}
	}
}

// A wait that was taken up again long after it began, as when a machine was down
// with its cluster, is looked at for a while before it is too long.
func TestAResumedWaitIsLookedAtBeforeItIsLate(t *testing.T) {
	t.Parallel()
	began := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	controller := &live.Controller{Meta: live.Meta{Name: "web", Generation: 2}}
	controller.Status.ObservedGeneration = 2
	given := live.Condition{Type: "Progressing", Status: "False", Reason: "ProgressDeadlineExceeded", LastTransitionTime: began.Add(8 * time.Hour)}
	controller.Status.Conditions = []live.Condition{given}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"metadata":{},"items":[]}`)
	}))
	t.Cleanup(server.Close)
	api, err := live.NewAPI(&rest.Config{Host: server.URL, QPS: 50, Burst: 100}, server.Client())
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		watched, now time.Duration // since it began
		late         bool
	}{
		"watched from its beginning":   {0, 10 * time.Minute, true},
		"taken up again after a night": {8 * time.Hour, 8*time.Hour + time.Second, false},
		"and looked at since":          {8 * time.Hour, 8*time.Hour + fleet.ResumeGrace, true},
		"taken up again early":         {3 * time.Minute, 10 * time.Minute, true},
	} {
		j := &job{api: api, opts: Options{}.withDefaults(), now: func() time.Time { return began.Add(c.now) }}
		j.Workload.Kind, j.Step.StartedAt, j.Watched = fleet.KindDeployment, began, began.Add(c.watched)
		j.Cluster.Exposure.LoadBalancerTimeout = 10 * time.Minute
		s := live.Sight{Kind: fleet.KindDeployment, Controller: controller}
		if err := j.late(t.Context(), s); (err != nil) != c.late {
			t.Errorf("%s: the rollout ends with %v", name, err)
		}
		if failure := j.cause(t.Context(), s); (failure != nil) != c.late {
			t.Errorf("%s: the rollout was given up: %+v", name, failure)
		}
		if err := j.unaddressed(t.Context(), &live.Service{}); (err != nil) != c.late {
			t.Errorf("%s: the wait for an address ends with %v", name, err)
		}
	}
}

func TestAnUpdateCuresAWorkloadThatFails(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "k3s", "containerd")
	w.use(w.raw, Options{CrashLoopRestarts: 1})
	wl, spec := w.demo("web")
	spec.Volumes = []fleet.Volume{{Name: "data", MountPath: "/data", Size: "1Gi"}} // so that it is recreated
	spec.Env = []fleet.EnvVar{{Name: "CRASH", Value: "true"}}
	if f := w.try(fleet.VerbDeploy, wl, spec, fleet.Params{}).failure(); f == nil || f.Reason != "CrashLoopBackOff" {
		t.Fatalf("ended with %+v", f)
	}
	wl.Release, spec.Env = 2, nil
	w.must(fleet.VerbUpdate, wl, spec, fleet.Params{})
}
