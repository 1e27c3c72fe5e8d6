package adapter

import (
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"portolan/internal/clustertest"
	"portolan/internal/fleet"
)

func TestB10_DeploySucceedsOnlyWhenAllIsAvailableAndReachable(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, w *world) {
		wl, spec := w.demo("web")
		wl.Replicas = 2
		spec.Files = []fleet.File{{Path: "/etc/demo/a.conf", Content: "a"}}
		spec.SecretEnv = []string{"TOKEN"}
		began := time.Now()
		s := w.drive(newOperation(fleet.VerbDeploy, wl, fleet.Params{}), wl, spec, map[string]string{"TOKEN": "hunter2"})
		if s.err != nil {
			t.Fatal(describe(s.err))
		}
		t.Logf("took %s", time.Since(began))

		d := w.deployment(wl)
		if st := d.Status; st.ObservedGeneration < d.Generation || st.UpdatedReplicas != 2 || st.AvailableReplicas != 2 || st.Replicas != 2 {
			t.Errorf("succeeded with status %+v", st)
		}
		svc := w.service(wl)
		if w.cluster.Exposure.Mode == fleet.ExposureLoadBalancer && len(svc.Status.LoadBalancer.Ingress) == 0 {
			t.Error("succeeded without an address")
		}
		o := s.last.Observation
		if o == nil || o.UID != string(d.UID) || o.Available != 2 || len(o.Pods) != 2 || o.Health != "Current" || len(o.Endpoints) != 1 || o.Endpoints[0].URL == "" {
			t.Fatalf("observation %+v", o)
		}
		if w.real {
			eventually(t, "the endpoint answers", func() bool {
				resp, err := http.Get(o.Endpoints[0].URL)
				if err != nil {
					return false
				}
				defer resp.Body.Close()
				text, _ := io.ReadAll(resp.Body)
				return strings.Contains(string(text), "demo version")
			})
		}
		for _, want := range []string{"Deployment/web created", "Service/web created", "ConfigMap/web-files created", "Secret/web-env created"} {
			if !s.says(want) {
				t.Errorf("no event says %q", want)
			}
		}

		// All of it is marked, and all of it is the one field manager's.
		labels := map[string]string{
			"app.kubernetes.io/name": "web", "app.kubernetes.io/instance": "web", "app.kubernetes.io/managed-by": "portolan",
			"portolan.dev/workload": wl.ID, "portolan.dev/target": w.cluster.ID, "portolan.dev/runtime": "container", "portolan.dev/installation": w.installation,
		}
		cm, err := w.look.CoreV1().ConfigMaps(wl.Namespace).Get(t.Context(), "web-files", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for name, m := range map[string]metav1.ObjectMeta{"deployment": d.ObjectMeta, "service": svc.ObjectMeta, "configmap": cm.ObjectMeta} {
			if !maps.Equal(m.Labels, labels) || m.Annotations["portolan.dev/release"] != "1" {
				t.Errorf("%s has labels %v, annotations %v", name, m.Labels, m.Annotations)
			}
			if !slices.ContainsFunc(m.ManagedFields, func(f metav1.ManagedFieldsEntry) bool {
				return f.Manager == "portolan" && f.Operation == metav1.ManagedFieldsOperationApply
			}) || slices.ContainsFunc(m.ManagedFields, func(f metav1.ManagedFieldsEntry) bool {
				return f.Manager == "portolan" && f.Operation != metav1.ManagedFieldsOperationApply
			}) {
				t.Errorf("%s is managed by %v", name, m.ManagedFields)
			}
		}

		// Applied again, nothing changes, and no pod is replaced.
		before := w.pods(wl)
		again := w.drive(newOperation(fleet.VerbUpdate, wl, fleet.Params{}), wl, spec, map[string]string{"TOKEN": "hunter2"})
		if again.err != nil {
			t.Fatal(describe(again.err))
		}
		if !again.says("Deployment/web unchanged") {
			t.Errorf("a second apply says %v", again.events)
		}
		if !sameUIDs(before, w.pods(wl)) {
			t.Error("a second apply replaced pods")
		}
	})
}

func TestB10_DeployDoesNotSucceedWhileAPodIsNotReady(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "k3s", "containerd")
	w.use(w.raw, Options{RolloutDeadline: 3 * time.Second})
	wl, spec := w.demo("sick")
	spec.Env = []fleet.EnvVar{{Name: "HANG", Value: "true"}}
	rest := w.made(wl, spec)
	eventually(t, "its container runs", func() bool {
		pods := w.pods(wl)
		return len(pods) == 1 && len(pods[0].Status.ContainerStatuses) == 1 && pods[0].Status.ContainerStatuses[0].State.Running != nil
	})
	s := w.drive(rest, wl, spec, nil)
	if f := s.failure(); f == nil || f.Reason != "NotReady" || f.Object == "" {
		t.Fatalf("ended with %v", s.err)
	}
}

func TestSecretsAndFilesRollThePods(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "k3s", "containerd")
	wl, spec := w.demo("roll")
	spec.SecretEnv = []string{"TOKEN"}
	spec.Files = []fleet.File{{Path: "/etc/demo/a.conf", Content: "one"}}
	run := func(verb fleet.Verb, token string) {
		t.Helper()
		if s := w.drive(newOperation(verb, wl, fleet.Params{}), wl, spec, map[string]string{"TOKEN": token}); s.err != nil {
			t.Fatal(describe(s.err))
		}
	}
	run(fleet.VerbDeploy, "first")
	before := w.pods(wl)

	wl.Release = 2
	run(fleet.VerbUpdate, "first")
	if !sameUIDs(before, w.pods(wl)) {
		t.Error("a release that changed nothing replaced pods")
	}
	wl.Release = 3
	run(fleet.VerbUpdate, "second")
	after := w.pods(wl)
	if sameUIDs(before, after) {
		t.Error("another secret value replaced no pod")
	}
	wl.Release = 4
	spec.Files[0].Content = "two"
	run(fleet.VerbUpdate, "second")
	last := w.pods(wl)
	if sameUIDs(after, last) {
		t.Error("another file replaced no pod")
	}
	for _, p := range last {
		for _, value := range p.Annotations {
			if strings.Contains(value, "second") {
				t.Error("a secret's value is in an annotation")
			}
		}
	}

	// What a release no longer uses goes; its values do not linger.
	wl.Release = 5
	spec.SecretEnv, spec.Files = nil, nil
	run(fleet.VerbUpdate, "")
	_, err := w.look.CoreV1().Secrets(wl.Namespace).Get(t.Context(), "roll-env", metav1.GetOptions{})
	absent(t, "Secret/roll-env", err)
	_, err = w.look.CoreV1().ConfigMaps(wl.Namespace).Get(t.Context(), "roll-files", metav1.GetOptions{})
	absent(t, "ConfigMap/roll-files", err)
}

func TestWhatTheServingPodsNeedStaysUntilOthersServe(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "k3s", "kwok")
	w.use(w.raw, Options{UnschedulableAfter: 1})
	wl, spec := w.demo("web")
	spec.SecretEnv = []string{"TOKEN"}
	spec.Files = []fleet.File{{Path: "/etc/demo/a.conf", Content: "a"}}
	w.must(fleet.VerbDeploy, wl, spec, fleet.Params{})
	there := func() []string {
		t.Helper()
		var out []string
		if _, err := w.look.CoreV1().Secrets(wl.Namespace).Get(t.Context(), "web-env", metav1.GetOptions{}); err == nil {
			out = append(out, "Secret")
		}
		if _, err := w.look.CoreV1().ConfigMaps(wl.Namespace).Get(t.Context(), "web-files", metav1.GetOptions{}); err == nil {
			out = append(out, "ConfigMap")
		}
		if _, err := w.look.CoreV1().Services(wl.Namespace).Get(t.Context(), "web", metav1.GetOptions{}); err == nil {
			out = append(out, "Service")
		}
		return out
	}

	bare := *spec
	bare.SecretEnv, bare.Files, bare.Ports, bare.Health = nil, nil, nil, nil
	bare.NodeSelector = map[string]string{"no.such/label": "x"}
	wl.Release = 2
	if f := w.try(fleet.VerbUpdate, wl, &bare, fleet.Params{}).failure(); f == nil || f.Reason != "Unschedulable" {
		t.Fatalf("an update that no node takes ended with %+v", f)
	}
	if now := there(); len(now) != 3 {
		t.Errorf("of what the pods that serve were made with there is only %v", now)
	}

	// Stopped, there is no pod that could need it.
	w.must(fleet.VerbStop, wl, &bare, fleet.Params{})
	wl.Stopped, wl.Release = true, 3
	s := w.must(fleet.VerbUpdate, wl, &bare, fleet.Params{})
	if now := there(); len(now) != 0 || !s.says("Secret/web-env deleted: this release does not use it") {
		t.Errorf("left behind: %v; %v", now, s.events)
	}
}

func TestB19_ARollbackLeavesAGrownVolumeItsSize(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "k3s", "kwok")
	wl, spec := w.demo("web")
	spec.Files = []fleet.File{{Path: "/etc/demo/a.conf", Content: "grown"}}
	spec.Volumes = []fleet.Volume{{Name: "data", MountPath: "/data", Size: "2Gi"}}
	w.must(fleet.VerbDeploy, wl, spec, fleet.Params{})
	look := func() (size, file string) {
		t.Helper()
		claim, err := w.look.CoreV1().PersistentVolumeClaims(wl.Namespace).Get(t.Context(), "web-data", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		files, err := w.look.CoreV1().ConfigMaps(wl.Namespace).Get(t.Context(), "web-files", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return claim.Spec.Resources.Requests.Storage().String(), files.Data["file-1"]
	}

	earlier := *spec
	earlier.Files = []fleet.File{{Path: "/etc/demo/a.conf", Content: "small"}}
	earlier.Volumes = []fleet.Volume{{Name: "data", MountPath: "/data", Size: "1024Mi"}}
	wl.Release = 2
	s := w.must(fleet.VerbRollback, wl, &earlier, fleet.Params{FromRelease: 1})
	if size, file := look(); size != "2Gi" || file != "small" || !s.says("PersistentVolumeClaim/web-data stays at 2Gi") {
		t.Errorf("rolled back to %s and %q: %v", size, file, s.events)
	}

	// A claim that is refused leaves the rest as it was.
	refused := *spec
	refused.Volumes = []fleet.Volume{{Name: "data", MountPath: "/data", Size: "2Gi", StorageClass: "another"}}
	wl.Release = 3
	f := w.try(fleet.VerbUpdate, wl, &refused, fleet.Params{}).failure()
	if _, file := look(); f == nil || f.Reason != fleet.ReasonInvalid || f.Object != "PersistentVolumeClaim/web-data" || file != "small" {
		t.Errorf("a claim that cannot be changed ended with %+v, and the file is %q", f, file)
	}
}

// Several pods with one volume may be wanted, but not without a word.
func TestPodsThatShareAVolumeAreWarnedOf(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "k3s", "kwok")
	wl, spec := w.demo("web")
	spec.Volumes = []fleet.Volume{{Name: "data", MountPath: "/data", Size: "1Gi"}}
	const says = "pods share the volume data: on several nodes only those of one can start"
	if p := w.previews(wl, spec)["Deployment/web"]; p.Note != "" {
		t.Errorf("the preview of one pod says %q", p.Note)
	}
	if s := w.must(fleet.VerbDeploy, wl, spec, fleet.Params{}); s.says("pods share") {
		t.Errorf("a deploy of one pod says %v", s.events)
	}
	if s := w.must(fleet.VerbScale, wl, spec, fleet.Params{Replicas: 2}); !s.says("2 " + says) {
		t.Errorf("a scale says %v", s.events)
	}
	wl.Replicas, wl.Release = 3, 2
	if p := w.previews(wl, spec)["Deployment/web"]; !strings.HasPrefix(p.Note, "3 "+says) || p.Action != previewConfigure || p.Error != "" {
		t.Errorf("the preview says %+v", p)
	}
	if s := w.must(fleet.VerbUpdate, wl, spec, fleet.Params{}); !s.says("3 " + says) {
		t.Errorf("an update says %v", s.events)
	}
}

func TestB11_ServicePerExposureMode(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, w *world) {
		w.cluster.Exposure = fleet.Exposure{Mode: fleet.ExposureClusterIP}
		wl, spec := w.demo("web")
		w.must(fleet.VerbDeploy, wl, spec, fleet.Params{})
		svc := w.service(wl)
		uid := svc.UID
		if svc.Spec.Type != corev1.ServiceTypeClusterIP || svc.Spec.Ports[0].NodePort != 0 || svc.Annotations["x.example/internal"] != "" {
			t.Fatalf("cluster-ip made %+v", svc.Spec)
		}

		w.cluster.Exposure = fleet.Exposure{
			Mode: fleet.ExposureLoadBalancer, Annotations: map[string]string{"x.example/internal": "true"},
			SourceRanges: []string{"10.0.0.0/8"}, LoadBalancerClass: "x.example/one", LoadBalancerTimeout: time.Minute,
		}
		apply := func() *story { t.Helper(); return w.apply(wl, spec) }
		apply()
		svc = w.service(wl)
		if svc.Spec.Type != corev1.ServiceTypeLoadBalancer || svc.Annotations["x.example/internal"] != "true" ||
			!slices.Equal(svc.Spec.LoadBalancerSourceRanges, []string{"10.0.0.0/8"}) || *svc.Spec.LoadBalancerClass != "x.example/one" {
			t.Fatalf("load-balancer made %+v", svc.Spec)
		}
		w.cluster.Exposure.LoadBalancerClass = "x.example/two"
		apply()
		if svc = w.service(wl); *svc.Spec.LoadBalancerClass != "x.example/two" || svc.UID != uid {
			t.Fatalf("another class made %+v", svc.Spec)
		}
		w.cluster.Exposure.LoadBalancerClass = ""
		apply()
		if svc = w.service(wl); svc.Spec.LoadBalancerClass != nil || svc.UID != uid {
			t.Fatalf("no class made %+v", svc.Spec)
		}

		w.cluster.Exposure = fleet.Exposure{Mode: fleet.ExposureNodePort, RuntimeHost: "198.51.100.1"}
		apply()
		svc = w.service(wl)
		free := svc.Spec.Ports[0].NodePort
		if svc.Spec.Type != corev1.ServiceTypeNodePort || free == 0 || svc.Spec.LoadBalancerSourceRanges != nil || svc.Annotations["x.example/internal"] != "" {
			t.Fatalf("node-port made %+v", svc.Spec)
		}

		// Of the node ports that nobody gets who has not asked for one (KEP-3668),
		// because tests of other packages take others at any time.
		const first, n = 30030, 56
		port := int32(rand.IntN(n))
		eventually(t, "a fixed node port is free", func() bool {
			port = (port + 1) % n
			w.cluster.Exposure.RuntimeNodePort = first + port
			apply()
			free = w.service(wl).Spec.Ports[0].NodePort
			return free == first+port
		})

		// A taken node port gives way to a free one, and says so, the preview too.
		other, otherSpec := w.demo("other")
		if p := w.previews(other, otherSpec)["Service/other"]; p.Action != previewCreate || p.Error != "" ||
			!strings.Contains(p.Note, "Node port "+strconv.Itoa(int(free))) || strings.Contains(p.YAML, "nodePort:") {
			t.Errorf("the preview says %+v", p)
		}
		s := w.apply(other, otherSpec)
		if got := w.service(other).Spec.Ports[0].NodePort; got == 0 || got == free {
			t.Errorf("the taken node port %d became %d", free, got)
		}
		if !s.says("Node port " + strconv.Itoa(int(free))) {
			t.Errorf("no event says that %d is taken: %v", free, s.events)
		}

		// The fixed one goes to the port named for it.
		w.cluster.Exposure = fleet.Exposure{Mode: fleet.ExposureClusterIP}
		w.must(fleet.VerbDelete, wl, spec, fleet.Params{})
		w.cluster.Exposure = fleet.Exposure{Mode: fleet.ExposureNodePort, GatewayNodePort: free}
		third, thirdSpec := w.demo("third")
		thirdSpec.Ports = append(thirdSpec.Ports, fleet.Port{Name: "gateway", Number: 9000})
		w.apply(third, thirdSpec)
		if ports := w.service(third).Spec.Ports; ports[1].Name != "gateway" || ports[1].NodePort != free || ports[0].NodePort == free {
			t.Errorf("the fixed node port went to %+v", ports)
		}
	})
}

// apply runs only the step that applies the objects, as an update does.
func (w *world) apply(wl *fleet.Workload, spec *fleet.Spec) *story {
	w.t.Helper()
	op := newOperation(fleet.VerbUpdate, wl, fleet.Params{})
	op.Steps = op.Steps[:1]
	s := w.drive(op, wl, spec, nil)
	if s.err != nil {
		w.t.Fatal(describe(s.err))
	}
	return s
}

func TestB12_LoadBalancerTimeoutNamesTheServiceAndTheTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "aks", "kwok")
	w.cluster.Exposure.LoadBalancerTimeout = 3 * time.Second
	w.cluster.Exposure.Annotations = map[string]string{"devcluster.portolan.dev/lb-delay": "never"}
	wl, spec := w.demo("web")
	s := w.try(fleet.VerbDeploy, wl, spec, fleet.Params{})
	f := s.failure()
	if f == nil || f.Object != "Service/web" || !strings.Contains(f.Message, "Service/web") || !strings.Contains(f.Message, "3s") {
		t.Fatalf("ended with %v", s.err)
	}
}

func TestB17_AForeignObjectIsNeverChanged(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, w *world) {
		wl, spec := w.demo("web")
		spec.Files = []fleet.File{{Path: "/etc/demo/a.conf", Content: "a"}}
		foreign, err := w.look.CoreV1().Services(wl.Namespace).Create(t.Context(), &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Name: "web"},
			Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": "theirs"}, Ports: []corev1.ServicePort{{Port: 1}}},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		s := w.try(fleet.VerbDeploy, wl, spec, fleet.Params{})
		f := s.failure()
		if f == nil || f.Reason != fleet.ReasonConflict || f.Object != "Service/web" || !strings.Contains(f.Message, "conflict") {
			t.Fatalf("ended with %v", s.err)
		}
		if now := w.service(wl); now.ResourceVersion != foreign.ResourceVersion {
			t.Error("the foreign Service was changed")
		}
		list, err := w.look.CoreV1().ConfigMaps(wl.Namespace).List(t.Context(), metav1.ListOptions{LabelSelector: "portolan.dev/workload"})
		if err != nil || len(list.Items) != 0 {
			t.Errorf("a refused deploy made %d objects (%v)", len(list.Items), err)
		}

		// Neither is it deleted, and it is said.
		s = w.must(fleet.VerbDelete, wl, spec, fleet.Params{})
		if now := w.service(wl); now.ResourceVersion != foreign.ResourceVersion || !s.says("Service/web was not made by this workload") {
			t.Errorf("delete said %v", s.events)
		}

		// Another Portolan's workload of the same name is as foreign.
		theirs := &world{t: t, real: w.real, raw: w.raw, look: w.look, cluster: w.cluster, adapter: w.adapter, installation: clustertest.UniqueName("inst")}
		a, aSpec := w.demo("app")
		w.must(fleet.VerbDeploy, a, aSpec, fleet.Params{})
		rv := w.deployment(a).Generation
		b, bSpec := theirs.demo("app")
		bSpec.Image = "portolan.dev/demo:2"
		for _, verb := range []fleet.Verb{fleet.VerbDeploy, fleet.VerbUpdate, fleet.VerbStop, fleet.VerbRestart, fleet.VerbRedeploy} {
			if f := theirs.try(verb, b, bSpec, fleet.Params{}).failure(); f == nil || f.Reason != fleet.ReasonConflict {
				t.Errorf("%s of another's workload: %v", verb, f)
			}
		}
		theirs.must(fleet.VerbDelete, b, bSpec, fleet.Params{})
		if d := w.deployment(a); d.Generation != rv {
			t.Error("another installation changed the Deployment")
		}
	})
}

// A volume that was kept is nobody's but of the installation that kept it, for the
// name it was kept under; one that is not marked so is somebody's.
func TestB17_OnlyAVolumeThatWasKeptIsTakenUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "k3s", "kwok")
	claims := w.look.CoreV1().PersistentVolumeClaims(w.cluster.Namespace)
	ours := map[string]string{"app.kubernetes.io/managed-by": "portolan", "portolan.dev/installation": w.installation}
	with := func(key, value string) map[string]string {
		out := maps.Clone(ours)
		out[key] = value
		return out
	}
	for name, c := range map[string]struct {
		labels map[string]string
		kept   string
	}{
		"anybodys":  {nil, "anybodys"},
		"anothers":  {with("portolan.dev/installation", "another"), "anothers"},
		"living":    {with("portolan.dev/workload", "somebody"), "living"},
		"unmarked":  {ours, ""},
		"misnamed":  {ours, "misnamed-x"},
		"unmanaged": {with("app.kubernetes.io/managed-by", "helm"), "unmanaged"},
	} {
		wl, spec := w.demo(name)
		spec.Volumes = []fleet.Volume{{Name: "data", MountPath: "/data", Size: "1Gi"}}
		there := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: name + "-data", Labels: c.labels}}
		if c.kept != "" {
			there.Annotations = map[string]string{"portolan.dev/kept": c.kept}
		}
		there.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
		there.Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}
		made, err := claims.Create(t.Context(), there, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		f := w.try(fleet.VerbDeploy, wl, spec, fleet.Params{}).failure()
		if f == nil || f.Reason != fleet.ReasonConflict || f.Object != "PersistentVolumeClaim/"+name+"-data" {
			t.Errorf("%s: the deploy ended with %+v", name, f)
		}
		now, err := claims.Get(t.Context(), made.Name, metav1.GetOptions{})
		if err != nil || now.UID != made.UID || !maps.Equal(now.Labels, c.labels) || now.Annotations["portolan.dev/kept"] != c.kept {
			t.Errorf("%s: the claim has become %v (%v)", name, now, err)
		}
	}
}

func TestB18_VerbsUseTheNamespaceOfTheWorkload(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "k3s", "kwok")
	wl, spec := w.demo("web")
	w.must(fleet.VerbDeploy, wl, spec, fleet.Params{})
	uid := w.deployment(wl).UID
	w.cluster.Namespace = clustertest.Namespace(t, w.look)
	w.must(fleet.VerbRestart, wl, spec, fleet.Params{})
	w.must(fleet.VerbStop, wl, spec, fleet.Params{})
	w.must(fleet.VerbStart, wl, spec, fleet.Params{})
	w.must(fleet.VerbUpdate, wl, spec, fleet.Params{})
	if w.deployment(wl).UID != uid {
		t.Error("another Deployment")
	}
	w.must(fleet.VerbDelete, wl, spec, fleet.Params{})
	_, err := w.look.AppsV1().Deployments(wl.Namespace).Get(t.Context(), wl.Name, metav1.GetOptions{})
	absent(t, "Deployment/web", err)
	list, err := w.look.AppsV1().Deployments(w.cluster.Namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil || len(list.Items) != 0 {
		t.Errorf("the cluster's new namespace has %d Deployments (%v)", len(list.Items), err)
	}
}

func TestNamespaceIsMadeWhenAbsent(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "k3s", "kwok")
	wl, spec := w.demo("web")
	wl.Namespace = clustertest.UniqueName("fresh")
	clustertest.DeleteNamespace(t, w.look, wl.Namespace)
	w.must(fleet.VerbDeploy, wl, spec, fleet.Params{})
	ns, err := w.look.CoreV1().Namespaces().Get(t.Context(), wl.Namespace, metav1.GetOptions{})
	if err != nil || ns.Labels["app.kubernetes.io/managed-by"] != "portolan" {
		t.Errorf("namespace %v (%v)", ns, err)
	}

	// One that somebody deleted is made again by a redeploy, and only by that.
	if err := w.look.CoreV1().Namespaces().Delete(t.Context(), wl.Namespace, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the namespace is gone", func() bool {
		_, err := w.look.CoreV1().Namespaces().Get(t.Context(), wl.Namespace, metav1.GetOptions{})
		return apierrors.IsNotFound(err)
	})
	f := w.try(fleet.VerbUpdate, wl, spec, fleet.Params{}).failure()
	if f == nil || !strings.Contains(f.Message, "its namespace is not there") || !strings.Contains(f.Message, wl.Namespace) || !strings.Contains(f.Remedy, "Redeploy") {
		t.Fatalf("an update ended with %+v", f)
	}
	s := w.must(fleet.VerbRedeploy, wl, spec, fleet.Params{})
	if !s.says("Namespace/" + wl.Namespace + " created") {
		t.Errorf("the redeploy says %v", s.events)
	}
}

func sameUIDs(a, b []corev1.Pod) bool {
	uids := func(list []corev1.Pod) (out []string) {
		for _, p := range list {
			if p.DeletionTimestamp == nil {
				out = append(out, string(p.UID))
			}
		}
		slices.Sort(out)
		return out
	}
	return slices.Equal(uids(a), uids(b))
}
