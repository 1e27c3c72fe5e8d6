package adapter

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"portolan/internal/clustertest"
	"portolan/internal/fleet"
	"portolan/internal/kube"
)

func TestB13_StopLeavesTheObjectsAndNoPod(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, w *world) {
		wl, spec := w.demo("web")
		wl.Replicas = 2
		w.must(fleet.VerbDeploy, wl, spec, fleet.Params{})
		d, svc := w.deployment(wl), w.service(wl)

		s := w.must(fleet.VerbStop, wl, spec, fleet.Params{})
		after := w.deployment(wl)
		if *after.Spec.Replicas != 0 || after.Status.Replicas != 0 || after.Status.ReadyReplicas != 0 || len(w.pods(wl)) != 0 {
			t.Errorf("stopped with spec %d, status %+v, %d pods", *after.Spec.Replicas, after.Status, len(w.pods(wl)))
		}
		if after.UID != d.UID || w.service(wl).UID != svc.UID {
			t.Error("the Deployment or the Service is another")
		}
		if s.replicas == nil || *s.replicas != 2 || after.Annotations["portolan.dev/replicas-before-stop"] != "2" {
			t.Errorf("the count before the stop is %v, annotation %q", s.replicas, after.Annotations["portolan.dev/replicas-before-stop"])
		}
		if o := s.last.Observation; o == nil || !o.Exists || o.Desired != 0 || o.Current != 0 || len(o.Pods) != 0 {
			t.Errorf("observation %+v", o)
		}

		// Again, as after a crash, it keeps the count.
		wl.Stopped = true
		again := w.must(fleet.VerbStop, wl, spec, fleet.Params{})
		if again.replicas == nil || *again.replicas != 2 {
			t.Errorf("a second stop remembers %v", again.replicas)
		}
		// An update of what is stopped does not start it.
		wl.Release = 2
		w.must(fleet.VerbUpdate, wl, spec, fleet.Params{})
		if d := w.deployment(wl); *d.Spec.Replicas != 0 || d.Annotations["portolan.dev/replicas-before-stop"] != "2" {
			t.Errorf("an update of the stopped workload set %d", *d.Spec.Replicas)
		}
	})
}

func TestB13_StopEndsThoughAPodWasEvicted(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "k3s", "kwok")
	wl, spec := w.demo("web")
	w.must(fleet.VerbDeploy, wl, spec, fleet.Params{})
	pod := w.pods(wl)[0]
	if _, err := w.look.CoreV1().Pods(wl.Namespace).Patch(t.Context(), pod.Name, types.StrategicMergePatchType,
		[]byte(`{"status":{"phase":"Failed","reason":"Evicted","message":"The node was low on resource: memory."}}`), metav1.PatchOptions{}, "status"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "another pod takes its place", func() bool { return len(w.pods(wl)) == 2 })
	s := w.must(fleet.VerbStop, wl, spec, fleet.Params{})
	left := w.pods(wl)
	if len(left) != 1 || left[0].UID != pod.UID {
		t.Fatalf("%d pods are left", len(left))
	}
	op := s.operation
	op.State = fleet.OperationSucceeded
	if phase, why := fleet.PhaseOf(&op, s.last.Observation, time.Now()); phase != fleet.PhaseStopped {
		t.Errorf("%s: %s", phase, why)
	}
}

func TestB14_StartRestoresTheCountAndScaleChangesOnlyReplicas(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, w *world) {
		wl, spec := w.demo("web")
		wl.Replicas = 2
		w.must(fleet.VerbDeploy, wl, spec, fleet.Params{})
		w.must(fleet.VerbStop, wl, spec, fleet.Params{})
		wl.Replicas = 7 // the cluster's own note counts
		s := w.must(fleet.VerbStart, wl, spec, fleet.Params{})
		d := w.deployment(wl)
		if *d.Spec.Replicas != 2 || d.Status.AvailableReplicas != 2 || d.Annotations["portolan.dev/replicas-before-stop"] != "" {
			t.Errorf("started %d, %d available, annotations %v", *d.Spec.Replicas, d.Status.AvailableReplicas, d.Annotations)
		}
		if o := s.last.Observation; o == nil || o.Available != 2 {
			t.Errorf("observation %+v", o)
		}

		before := d.DeepCopy()
		w.must(fleet.VerbScale, wl, spec, fleet.Params{Replicas: 3})
		d = w.deployment(wl)
		if *d.Spec.Replicas != 3 || d.Status.AvailableReplicas != 3 {
			t.Errorf("scaled to %d, %d available", *d.Spec.Replicas, d.Status.AvailableReplicas)
		}
		before.Spec.Replicas = d.Spec.Replicas
		if !equality.Semantic.DeepEqual(before.Spec, d.Spec) || !maps.Equal(before.Annotations, d.Annotations) {
			t.Error("scale changed more than replicas")
		}
		for _, p := range w.pods(wl) {
			if p.DeletionTimestamp != nil {
				t.Error("scale replaced a pod")
			}
		}

		// What an autoscaler owns is left alone.
		_, err := w.look.AutoscalingV2().HorizontalPodAutoscalers(wl.Namespace).Create(t.Context(), &autoscalingv2.HorizontalPodAutoscaler{
			ObjectMeta: metav1.ObjectMeta{Name: "auto"},
			Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
				ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "web"}, MaxReplicas: 5,
			},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		s = w.must(fleet.VerbScale, wl, spec, fleet.Params{Replicas: 1})
		wl.Replicas, wl.Release = 1, 2
		w.must(fleet.VerbUpdate, wl, spec, fleet.Params{})
		if d := w.deployment(wl); *d.Spec.Replicas != 3 || !s.says("HorizontalPodAutoscaler/auto owns the replica count") {
			t.Errorf("against an autoscaler: %d, %v", *d.Spec.Replicas, s.events)
		}
	})
}

func TestB15_RestartChangesOnlyTheRestartAnnotation(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, w *world) {
		wl, spec := w.demo("web")
		w.must(fleet.VerbDeploy, wl, spec, fleet.Params{})
		_, err := w.look.AppsV1().Deployments(wl.Namespace).Patch(t.Context(), wl.Name, types.MergePatchType,
			[]byte(`{"metadata":{"annotations":{"team.example/owner":"x"}},"spec":{"template":{"metadata":{"annotations":{"team.example/note":"y"}}}}}`), metav1.PatchOptions{})
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "that change is rolled out", func() bool {
			d := w.deployment(wl)
			return d.Status.ObservedGeneration == d.Generation && d.Status.UpdatedReplicas == 1 && d.Status.AvailableReplicas == 1 &&
				d.Status.Replicas == 1 && len(w.pods(wl)) == 1
		})
		before, pods := w.deployment(wl), w.pods(wl)

		op := newOperation(fleet.VerbRestart, wl, fleet.Params{})
		if s := w.drive(op, wl, spec, nil); s.err != nil {
			t.Fatal(describe(s.err))
		}
		after := w.deployment(wl)
		if sameUIDs(pods, w.pods(wl)) {
			t.Error("the pods are the same")
		}
		restarted := after.Spec.Template.Annotations["kubectl.kubernetes.io/restartedAt"]
		if restarted == "" || after.Annotations["team.example/owner"] != "x" {
			t.Errorf("annotations %v, %v", after.Annotations, after.Spec.Template.Annotations)
		}
		expect := before.Spec.DeepCopy()
		expect.Template.Annotations["kubectl.kubernetes.io/restartedAt"] = restarted
		if !equality.Semantic.DeepEqual(*expect, after.Spec) {
			t.Error("restart changed more than the annotation")
		}

		// The same restart again, as after a crash, replaces nothing.
		pods = w.pods(wl)
		if s := w.drive(op, wl, spec, nil); s.err != nil {
			t.Fatal(describe(s.err))
		}
		if w.deployment(wl).Generation != after.Generation || !sameUIDs(pods, w.pods(wl)) {
			t.Error("the same restart restarted twice")
		}
	})
}

func TestB16_RedeployMakesOneNewDeploymentAndDeleteLeavesNothing(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, w *world) {
		wl, spec := w.demo("web")
		spec.Files = []fleet.File{{Path: "/etc/demo/a.conf", Content: "a"}}
		spec.Volumes = []fleet.Volume{{Name: "data", MountPath: "/data", Size: "1Gi"}}
		w.must(fleet.VerbDeploy, wl, spec, fleet.Params{})
		claims := w.look.CoreV1().PersistentVolumeClaims(wl.Namespace)
		claim, err := claims.Get(t.Context(), "web-data", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		old := w.deployment(wl)
		if old.Spec.Strategy.Type != "Recreate" {
			t.Errorf("a Deployment with a volume rolls by %s", old.Spec.Strategy.Type)
		}
		s := w.must(fleet.VerbRedeploy, wl, spec, fleet.Params{})
		list, err := w.look.AppsV1().Deployments(wl.Namespace).List(t.Context(), metav1.ListOptions{})
		if err != nil || len(list.Items) != 1 || list.Items[0].UID == old.UID {
			t.Fatalf("redeploy left %d Deployments (%v)", len(list.Items), err)
		}
		if now, err := claims.Get(t.Context(), "web-data", metav1.GetOptions{}); err != nil || now.UID != claim.UID || !s.says("PersistentVolumeClaim/web-data kept") {
			t.Errorf("redeploy did not keep the volume (%v): %v", err, s.events)
		}

		// A label that somebody copied makes nothing ours.
		copied, err := w.look.CoreV1().ConfigMaps(wl.Namespace).Create(t.Context(), &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Name: "theirs", Labels: list.Items[0].Labels},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		s = w.must(fleet.VerbDelete, wl, spec, fleet.Params{KeepVolumes: true})
		if _, err := claims.Get(t.Context(), "web-data", metav1.GetOptions{}); err != nil || !s.says("PersistentVolumeClaim/web-data kept") {
			t.Errorf("the volume was to be kept: %v", err)
		}
		// Asked for again, as after a crash, it leaves the volume where it is.
		if s = w.must(fleet.VerbDelete, wl, spec, fleet.Params{KeepVolumes: true}); s.says("left alone") {
			t.Errorf("a second delete says %v", s.events)
		}

		// The next workload of the name takes it up, and says so.
		wl, _ = w.demo("web")
		const says = "PersistentVolumeClaim/web-data was kept when an earlier workload web was deleted"
		if p := w.previews(wl, spec)["PersistentVolumeClaim/web-data"]; p.Error != "" || p.Action != previewConfigure || !strings.HasPrefix(p.Note, says) {
			t.Errorf("the preview says %+v", p)
		}
		s = w.must(fleet.VerbDeploy, wl, spec, fleet.Params{})
		now, err := claims.Get(t.Context(), "web-data", metav1.GetOptions{})
		if err != nil || now.UID != claim.UID || now.Labels["portolan.dev/workload"] != wl.ID || now.Annotations["portolan.dev/kept"] != "" || !s.says(says) {
			t.Errorf("the kept volume is %v (%v): %v", now, err, s.events)
		}
		w.must(fleet.VerbDelete, wl, spec, fleet.Params{})
		ctx := t.Context()
		_, err = w.look.AppsV1().Deployments(wl.Namespace).Get(ctx, "web", metav1.GetOptions{})
		absent(t, "Deployment/web", err)
		_, err = w.look.CoreV1().Services(wl.Namespace).Get(ctx, "web", metav1.GetOptions{})
		absent(t, "Service/web", err)
		_, err = w.look.CoreV1().ConfigMaps(wl.Namespace).Get(ctx, "web-files", metav1.GetOptions{})
		absent(t, "ConfigMap/web-files", err)
		_, err = claims.Get(ctx, "web-data", metav1.GetOptions{})
		absent(t, "PersistentVolumeClaim/web-data", err)
		if n := len(w.pods(wl)); n != 0 {
			t.Errorf("%d pods remain", n)
		}
		if now, err := w.look.CoreV1().ConfigMaps(wl.Namespace).Get(ctx, "theirs", metav1.GetOptions{}); err != nil || now.UID != copied.UID {
			t.Error("an object of another name was deleted")
		}
		w.must(fleet.VerbDelete, wl, spec, fleet.Params{}) // done again it succeeds
	})
}

// A delete that is to keep the volumes and does not come to its end leaves the
// workload what it has: the next delete may take them away.
func TestB16_VolumesAreTheWorkloadsUntilItIsGone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "k3s", "kwok")
	claims := w.look.CoreV1().PersistentVolumeClaims(w.cluster.Namespace)
	wl, spec := w.demo("web")
	spec.Volumes = []fleet.Volume{{Name: "data", MountPath: "/data", Size: "1Gi"}}
	w.must(fleet.VerbDeploy, wl, spec, fleet.Params{})
	begun := newOperation(fleet.VerbDelete, wl, fleet.Params{KeepVolumes: true})
	begun.Steps = begun.Steps[:slices.IndexFunc(begun.Steps, func(s fleet.Step) bool { return s.Name == fleet.StepGone })]
	if s := w.drive(begun, wl, spec, nil); s.err != nil || !s.says("PersistentVolumeClaim/web-data kept") {
		t.Fatalf("%v: %v", s.err, s.events)
	}
	if s := w.must(fleet.VerbRedeploy, wl, spec, fleet.Params{}); s.says("an earlier workload") {
		t.Errorf("a redeploy after that says %v", s.events)
	}
	if s := w.drive(begun, wl, spec, nil); s.err != nil {
		t.Fatal(s.err)
	}
	w.must(fleet.VerbDelete, wl, spec, fleet.Params{})
	_, err := claims.Get(t.Context(), "web-data", metav1.GetOptions{})
	absent(t, "PersistentVolumeClaim/web-data", err)
}

func TestB16_AForbiddenDeleteFailsNamingTheObject(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "k3s", "kwok")
	wl, spec := w.demo("web")
	w.must(fleet.VerbDeploy, wl, spec, fleet.Params{})
	w.as(t, func(p fleet.Permission) bool { return !(p.Resource == "services" && p.Verb == "delete") })
	s := w.try(fleet.VerbDelete, wl, spec, fleet.Params{})
	f := s.failure()
	if f == nil || f.Reason != fleet.ReasonForbidden || f.Object != "Service/web" || !strings.Contains(f.Message, "Service/web") {
		t.Fatalf("ended with %v", s.err)
	}
}

func TestB7_TheRoleIsEnoughForALife(t *testing.T) {
	t.Parallel()
	for _, kind := range []fleet.WorkloadKind{fleet.KindDeployment, fleet.KindStatefulSet} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "k3s", "kwok")
			w.as(t, func(p fleet.Permission) bool { return !p.Optional })
			wl, spec := w.demo("web")
			wl.Kind, spec.Kind = kind, kind
			spec.SecretEnv = []string{"TOKEN"}
			spec.Files = []fleet.File{{Path: "/etc/demo/a.conf", Content: "a"}}
			spec.Volumes = []fleet.Volume{{Name: "data", MountPath: "/data", Size: "1Gi"}}
			for _, verb := range []fleet.Verb{
				fleet.VerbDeploy, fleet.VerbUpdate, fleet.VerbScale, fleet.VerbRestart, fleet.VerbStop, fleet.VerbStart, fleet.VerbRedeploy, fleet.VerbDelete,
			} {
				wl.Release++
				w.must(verb, wl, spec, fleet.Params{Replicas: 2})
			}
		})
	}
}

// as makes the adapter speak as an account that may do in the namespace only
// what the table of permissions says and keep admits.
func (w *world) as(t *testing.T, keep func(fleet.Permission) bool) {
	t.Helper()
	ctx, ns := context.Background(), w.cluster.Namespace
	raw := clustertest.AccountKubeconfig(t, w.raw, ns, "portolan")
	role := &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: "portolan"}}
	for _, p := range fleet.Permissions {
		if keep(p) {
			role.Rules = append(role.Rules, rbacv1.PolicyRule{APIGroups: []string{p.Group}, Resources: []string{p.Resource}, Verbs: []string{p.Verb}})
		}
	}
	if _, err := w.look.RbacV1().Roles(ns).Create(ctx, role, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	subject := rbacv1.Subject{Kind: "ServiceAccount", Name: "portolan", Namespace: ns}
	if _, err := w.look.RbacV1().RoleBindings(ns).Create(ctx, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "portolan"},
		RoleRef:    rbacv1.RoleRef{APIGroup: "rbac.authorization.k8s.io", Kind: "Role", Name: "portolan"},
		Subjects:   []rbacv1.Subject{subject},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	clustertest.AwaitAccess(t, w.look, ns, subject, role.Rules[0])
	w.use(raw, Options{})
}

func TestKindChangesBetweenReleases(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "k3s", "kwok")
	wl, spec := w.demo("web")
	w.must(fleet.VerbDeploy, wl, spec, fleet.Params{})
	wl.Kind, spec.Kind, wl.Release = fleet.KindStatefulSet, fleet.KindStatefulSet, 2
	w.must(fleet.VerbUpdate, wl, spec, fleet.Params{})
	_, err := w.look.AppsV1().Deployments(wl.Namespace).Get(t.Context(), "web", metav1.GetOptions{})
	absent(t, "Deployment/web", err)
	if _, err := w.look.AppsV1().StatefulSets(wl.Namespace).Get(t.Context(), "web", metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
	if svc, err := w.look.CoreV1().Services(wl.Namespace).Get(t.Context(), "web-headless", metav1.GetOptions{}); err != nil || svc.Spec.ClusterIP != "None" {
		t.Errorf("the headless Service: %v", err)
	}
	w.must(fleet.VerbDelete, wl, spec, fleet.Params{})
}

func TestAContainerWithoutPortsHasNoService(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "k3s", "kwok")
	wl, spec := w.demo("job")
	spec.Ports, spec.Health = nil, nil
	w.must(fleet.VerbDeploy, wl, spec, fleet.Params{})
	list, err := w.look.CoreV1().Services(wl.Namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil || len(list.Items) != 0 {
		t.Errorf("%d Services (%v)", len(list.Items), err)
	}
}

func TestB20_FailuresNameTheirCause(t *testing.T) {
	t.Parallel()
	t.Run("a crash loop with its last lines", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "k3s", "containerd")
		w.use(w.raw, Options{CrashLoopRestarts: 1})
		wl, spec := w.demo("crash")
		// Its health check keeps it from being ready for the moment that it runs.
		spec.Env = []fleet.EnvVar{{Name: "CRASH", Value: "true"}}
		rest := w.made(wl, spec)
		eventually(t, "it has crashed, and what is known of that has come", func() bool {
			pods := w.pods(wl)
			if len(pods) != 1 || len(pods[0].Status.ContainerStatuses) != 1 || pods[0].Status.ContainerStatuses[0].RestartCount == 0 {
				return false
			}
			text, err := w.look.CoreV1().Pods(wl.Namespace).GetLogs(pods[0].Name, &corev1.PodLogOptions{Previous: true}).DoRaw(t.Context())
			return err == nil && strings.Contains(string(text), "fatal: cannot go on") && w.tells(wl, "Started")
		})
		f := w.drive(rest, wl, spec, nil).failure()
		if f == nil || f.Reason != "CrashLoopBackOff" || !strings.HasPrefix(f.Object, "Pod/crash-") || len(f.Events) == 0 ||
			!strings.Contains(strings.Join(f.Logs, "\n"), "fatal: cannot go on") {
			t.Fatalf("ended with %+v", f)
		}
	})
	t.Run("an image that is not there", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "k3s", "containerd")
		w.use(w.raw, Options{ImagePullAfter: 1})
		wl, spec := w.demo("image")
		spec.Image = "127.0.0.1:1/no/such:1"
		f := w.try(fleet.VerbDeploy, wl, spec, fleet.Params{}).failure()
		if f == nil || f.Reason != "ImagePullBackOff" || !strings.Contains(f.Message, "127.0.0.1:1/no/such:1") {
			t.Fatalf("ended with %+v", f)
		}
	})
	t.Run("a pod that no node takes", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "k3s", "kwok")
		w.use(w.raw, Options{UnschedulableAfter: 1})
		wl, spec := w.demo("big")
		spec.NodeSelector = map[string]string{"no.such/label": "x"}
		rest := w.made(wl, spec)
		eventually(t, "the scheduler tells of it", func() bool { return w.tells(wl, "FailedScheduling") })

		// Until it has lasted, the step that waits says so.
		w.use(w.raw, Options{})
		step := rest.Steps[0]
		step.StartedAt = time.Now()
		eventually(t, "it says what is in its way", func() bool { // once its controllers have told of the pod
			result, err := w.adapter.Do(t.Context(), fleet.StepRequest{
				Operation: rest, Step: step, Cluster: w.cluster, Workload: *wl, Spec: *spec, Installation: w.installation,
			}, time.Second)
			if result.Done {
				t.Fatalf("meanwhile it ends: %+v", result)
			}
			return err == nil && strings.HasPrefix(result.Message, "0 of ") && strings.Contains(result.Message, "available. No node takes the pod: 0/")
		})
		w.use(w.raw, Options{UnschedulableAfter: 1})
		f := w.drive(rest, wl, spec, nil).failure()
		if f == nil || f.Reason != "Unschedulable" || len(f.Events) == 0 {
			t.Fatalf("ended with %+v", f)
		}
	})
	for _, kind := range []fleet.WorkloadKind{fleet.KindDeployment, fleet.KindStatefulSet} {
		t.Run("a quota of a "+string(kind), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "k3s", "kwok")
			if _, err := w.look.CoreV1().ResourceQuotas(w.cluster.Namespace).Create(t.Context(), &corev1.ResourceQuota{
				ObjectMeta: metav1.ObjectMeta{Name: "tight"},
				Spec:       corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{"limits.memory": resource.MustParse("1Mi")}},
			}, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the quota counts", func() bool {
				_, err := w.look.CoreV1().Pods(w.cluster.Namespace).Create(t.Context(), &corev1.Pod{
					ObjectMeta: metav1.ObjectMeta{Name: "over"},
					Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "over", Image: "over", Resources: corev1.ResourceRequirements{
						Limits: corev1.ResourceList{"memory": resource.MustParse("2Mi")},
					}}}},
				}, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
				return err != nil && strings.Contains(err.Error(), "exceeded quota")
			})
			wl, spec := w.demo("big")
			wl.Kind, spec.Kind = kind, kind
			f := w.try(fleet.VerbDeploy, wl, spec, fleet.Params{}).failure()
			if f == nil || f.Reason != reasonQuota || !strings.Contains(f.Message, "exceeded quota") {
				t.Fatalf("ended with %+v", f)
			}
		})
	}
}

// tells reports whether an event with that reason is there about a pod of the workload.
func (w *world) tells(wl *fleet.Workload, reason string) bool {
	w.t.Helper()
	list, err := w.look.CoreV1().Events(wl.Namespace).List(w.t.Context(), metav1.ListOptions{FieldSelector: "reason=" + reason})
	if err != nil {
		w.t.Fatal(err)
	}
	return slices.ContainsFunc(list.Items, func(e corev1.Event) bool { return strings.HasPrefix(e.InvolvedObject.Name, wl.Name+"-") })
}

func TestNoStepIsDoneInAnotherCluster(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "k3s", "kwok")
	wl, spec := w.demo("web")
	w.must(fleet.VerbDeploy, wl, spec, fleet.Params{})
	there, err := w.look.CoreV1().Namespaces().Get(t.Context(), metav1.NamespaceSystem, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	config, err := kube.Parse(w.raw, kube.ParseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	here, err := config.Destination()
	if err != nil {
		t.Fatal(err)
	}
	do := func(namespace, uid, destination string) (fleet.StepResult, error) {
		op := newOperation(fleet.VerbDelete, wl, fleet.Params{})
		return w.adapter.Do(t.Context(), fleet.StepRequest{
			Operation: op, Step: op.Steps[0], Cluster: w.cluster, Workload: *wl, Spec: *spec, Installation: w.installation,
			Pinned: fleet.ClusterIdentity{Namespace: namespace, UID: uid, Destination: destination},
		}, 2*time.Second)
	}
	for namespace, destination := range map[string]string{
		metav1.NamespaceSystem: here, wl.Namespace: "another server", "a-namespace-that-is-gone": "another server",
	} {
		var f *fleet.Failure
		if result, err := do(namespace, "of-another-cluster", destination); !errors.As(err, &f) || f.Reason != fleet.ReasonAnotherCluster || result.Done {
			t.Fatalf("%s: it was done there: %+v, %v", namespace, result, err)
		}
	}
	w.deployment(wl) // it is still there
	for namespace, uid := range map[string]string{
		metav1.NamespaceSystem: string(there.UID), wl.Namespace: "of-before", "a-namespace-that-is-gone": "any",
	} {
		if result, err := do(namespace, uid, here); err != nil || !result.Done {
			t.Fatalf("%s: %+v, %v", namespace, result, err)
		}
	}
}

// What nobody may do is not a right that the credential lacks.
func TestARuleOfAdmissionIsNotTakenForAMissingRight(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "k3s", "kwok")
	if _, err := w.look.CoreV1().LimitRanges(w.cluster.Namespace).Create(t.Context(), &corev1.LimitRange{
		ObjectMeta: metav1.ObjectMeta{Name: "least"},
		Spec: corev1.LimitRangeSpec{Limits: []corev1.LimitRangeItem{{
			Type: corev1.LimitTypePersistentVolumeClaim, Min: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("2Gi")},
		}}},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	wl, spec := w.demo("web")
	spec.Volumes = []fleet.Volume{{Name: "data", MountPath: "/data", Size: "1Gi"}}
	eventually(t, "the rule counts", func() bool {
		_, err := w.look.CoreV1().PersistentVolumeClaims(w.cluster.Namespace).Create(t.Context(), &corev1.PersistentVolumeClaim{
			ObjectMeta: metav1.ObjectMeta{Name: "small"},
			Spec: corev1.PersistentVolumeClaimSpec{
				AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
				Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
			},
		}, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return apierrors.IsForbidden(err)
	})
	f := w.try(fleet.VerbDeploy, wl, spec, fleet.Params{}).failure()
	if f == nil || f.Reason != reasonAdmission || !strings.Contains(f.Message, "minimum storage usage") || strings.Contains(f.Remedy, "RBAC") {
		t.Fatalf("ended with %+v", f)
	}
}

func TestAServerThatHasJustBegunIsAskedAgain(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"not yet ready to handle request", "status unknown for quota: q, resources: services"} {
		err := refusal(apierrors.NewForbidden(corev1.Resource("services"), "web", errors.New(text)), "create", "Service/web")
		if errors.As(err, new(*fleet.Failure)) || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: it would end with %v", text, err)
		}
	}
}
