package adapter

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"portolan/internal/fleet"
	"portolan/internal/kube/live"
)

// told answers as an API server does that knows one ReplicaSet and these events.
func told(t *testing.T, set live.Meta, events []corev1.Event) *live.API {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var items any = []any{map[string]any{"metadata": set}}
		if strings.HasSuffix(r.URL.Path, "/events") {
			kept := []corev1.Event{}
			for _, e := range events {
				asked := r.URL.Query().Get("fieldSelector")
				if strings.Contains(asked, "involvedObject.uid="+string(e.InvolvedObject.UID)) || strings.Contains(asked, "reason="+e.Reason) {
					kept = append(kept, e)
				}
			}
			items = kept
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"items": items})
	}))
	t.Cleanup(server.Close)
	api, err := live.NewAPI(&rest.Config{Host: server.URL, QPS: 1000, Burst: 1000}, server.Client())
	if err != nil {
		t.Fatal(err)
	}
	return api
}

// What is refused for a moment, such as while a webhook restarts or an old pod
// still holds its share of a quota, is made by the controller's next tries.
func TestARefusalOfPodsIsFinalOnlyAfterItHasLasted(t *testing.T) {
	t.Parallel()
	const quota, webhook = "exceeded quota: tight", `failed calling webhook "check.example"`
	clock := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC) // the cluster's, when the first pod was refused
	at := func(seconds int) metav1.Time { return metav1.NewTime(clock.Add(time.Duration(seconds) * time.Second)) }
	event := func(reason, words string, first, last int) corev1.Event {
		e := corev1.Event{Reason: reason, Message: words, FirstTimestamp: at(first), LastTimestamp: at(last)}
		e.InvolvedObject.UID = "u1"
		return e
	}
	removed := event("SuccessfulDelete", "Deleted pod: web-0-a", 1, 1)
	removed.InvolvedObject = corev1.ObjectReference{UID: "u0", Name: "web-0"}

	for name, c := range map[string]struct {
		events []corev1.Event
		pods   []int // when they were made
		after  int   // seconds, since the first refusal
		want   string
	}{
		"it is young":                {[]corev1.Event{event("FailedCreate", webhook, 0, 3)}, nil, 9, ""},
		"no try has come since":      {[]corev1.Event{event("FailedCreate", webhook, 0, 3)}, nil, 30, ""},
		"it lasts":                   {[]corev1.Event{event("FailedCreate", quota, 0, 10)}, nil, 12, quota},
		"in its last words":          {[]corev1.Event{event("FailedCreate", webhook, 0, 1), event("FailedCreate", "(combined from similar events): Error creating: "+quota, 2, 10)}, nil, 12, quota},
		"no try comes at all":        {[]corev1.Event{event("FailedCreate", quota, 0, 3)}, nil, 70, quota},
		"it was mended":              {[]corev1.Event{event("FailedCreate", webhook, 0, 12), event("SuccessfulCreate", "made", 13, 13)}, []int{13}, 40, ""},
		"it was mended long ago":     {[]corev1.Event{event("FailedCreate", webhook, 0, 12), event("SuccessfulCreate", "made", 13, 13)}, []int{13}, 100, ""},
		"something was made":         {[]corev1.Event{event("FailedCreate", quota, 0, 20), event("SuccessfulCreate", "made", 15, 15)}, []int{15}, 40, ""},
		"a pod was made in silence":  {[]corev1.Event{event("FailedCreate", quota, 0, 20)}, []int{15}, 40, ""},
		"and then it was refused on": {[]corev1.Event{event("FailedCreate", quota, 0, 26), event("SuccessfulCreate", "made", 15, 15)}, []int{15}, 40, quota},
		"other words, after that":    {[]corev1.Event{event("FailedCreate", quota, 0, 0), event("SuccessfulCreate", "made", 5, 5), event("FailedCreate", webhook, 40, 41)}, []int{5}, 45, ""},
		"the account is to come":     {[]corev1.Event{event("FailedCreate", "error looking up service account", 0, 40)}, nil, 50, ""},
	} {
		for _, kind := range []fleet.WorkloadKind{fleet.KindDeployment, fleet.KindStatefulSet} {
			// Ours may say another time than the cluster's.
			for _, ahead := range []time.Duration{0, -time.Hour} {
				if ahead != 0 && (name == "no try comes at all" || name == "the account is to come") {
					continue // here ours has to be asked
				}
				begun := clock.Add(ahead)
				check := func(name string, events []corev1.Event, after int, want string) {
					t.Helper()
					j := &job{opts: Options{}.withDefaults(), api: told(t, live.Meta{
						Name: "web-1", UID: "u1", CreationTimestamp: clock, OwnerReferences: []live.Reference{{UID: "u1"}},
					}, events)}
					j.Workload = fleet.Workload{Name: "web", Namespace: "apps", Kind: kind}
					j.Step = fleet.Step{Name: fleet.StepRollout, StartedAt: begun}
					j.Operation.CreatedAt = begun
					j.now = func() time.Time { return begun.Add(time.Duration(after) * time.Second) }
					two := int32(2)
					s := live.Sight{Kind: kind, Controller: &live.Controller{Meta: live.Meta{Name: "web", UID: "u1"}}}
					s.Controller.Spec.Replicas = &two
					for i, made := range c.pods {
						p := live.Pod{Meta: live.Meta{Name: fmt.Sprint("web-", i), CreationTimestamp: at(made).Time}}
						p.Status.Conditions = []live.Condition{{Type: "Ready", Status: "True"}}
						s.Pods = append(s.Pods, p)
					}
					if kind == fleet.KindDeployment {
						s.Controller.Status.Conditions = []live.Condition{{Type: "ReplicaFailure", Status: "True", Reason: "FailedCreate", Message: webhook, LastTransitionTime: clock}}
					}
					f := j.cause(t.Context(), s)
					if want == "" && f != nil || want != "" && (f == nil || f.Message != want || f.Reason != reasonQuota) {
						t.Errorf("%s, %s, clock %s: %+v, want %q", name, kind, ahead, f, want)
					}
				}
				check(name, c.events, c.after, c.want)
				if name == "it lasts" && kind == fleet.KindDeployment {
					check("an old pod ends", append(c.events, removed), 25, "")
					check("an old pod has ended", []corev1.Event{event("FailedCreate", quota, 0, 41), removed}, 45, quota)
				}
			}
		}
	}
}
