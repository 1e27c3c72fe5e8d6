package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// asProgram makes the test binary behave as devcluster itself: it has all of
// Kubernetes in it already, and starts itself again just as devcluster does.
const asProgram = "PORTOLAN_DEVCLUSTER_TEST_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// bench is a folder of clusters, which end with the test however it ends.
type bench struct {
	t   *testing.T
	dir string
}

func newBench(t *testing.T) *bench {
	t.Helper()
	dir, err := os.MkdirTemp("", "devc") // a short path, for sockets
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t, dir}
	t.Cleanup(func() {
		entries, _ := os.ReadDir(dir)
		for _, entry := range entries {
			if err := removeCluster(filepath.Join(dir, entry.Name())); err != nil {
				t.Error(err)
			}
		}
		_ = os.RemoveAll(dir)
	})
	return b
}

func (b *bench) try(args ...string) (string, error) {
	output, err := execSelf(append(args, "--dir", b.dir)...).CombinedOutput()
	return string(output), err
}

func (b *bench) run(args ...string) string {
	b.t.Helper()
	output, err := b.try(args...)
	if err != nil {
		b.t.Fatalf("devcluster %s: %v\n%s", strings.Join(args, " "), err, output)
	}
	return output
}

func (b *bench) up(name string, args ...string) {
	b.t.Helper()
	b.run(append([]string{"up", "--name", name, "--while-pid", fmt.Sprint(os.Getpid()), "--timeout", "5m"}, args...)...)
}

func (b *bench) client(kubeconfig string) kubernetes.Interface {
	b.t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		b.t.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		b.t.Fatal(err)
	}
	return client
}

// eventually fails the test if done does not come true in good time. An error
// may pass.
func (b *bench) eventually(what string, done func() (bool, error)) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 3*time.Minute)
	defer cancel()
	var latest error
	err := poll(ctx, 50*time.Millisecond, func() (ok bool, _ error) {
		ok, latest = done()
		return ok && latest == nil, nil
	})
	if err != nil {
		b.t.Fatalf("waiting for %s: %v, %v", what, err, latest)
	}
}

// nothingLeft fails the test if anything of the cluster is still there.
func (b *bench) nothingLeft(name string) {
	b.t.Helper()
	dir := filepath.Join(b.dir, name)
	if _, err := os.Lstat(dir); !os.IsNotExist(err) {
		b.t.Errorf("its folder is left: %v", err)
	}
	if pids, err := members(dir); err != nil || len(pids) > 0 {
		b.t.Errorf("processes are left: %v %v", pids, err)
	}
	if _, err := net.InterfaceByName("devc-" + clusterID(dir)); err == nil {
		b.t.Error("its network device is left")
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil || bytes.Contains(mounts, []byte(dir)) {
		b.t.Errorf("mounts are left: %v", err)
	}
	hierarchies, err := cgroupHierarchies()
	if err != nil {
		b.t.Fatal(err)
	}
	for _, hierarchy := range hierarchies {
		if _, err := os.Stat(filepath.Join(hierarchy, cgroupName(dir))); !os.IsNotExist(err) {
			b.t.Errorf("a cgroup is left in %s", hierarchy)
		}
	}
}

// crash kills the process that runs the others.
func (b *bench) crash(name string) {
	b.t.Helper()
	pid := b.pid(name, "supervisor")
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		b.t.Fatal(err)
	}
	<-ended(pid)
}

func (b *bench) pid(name, program string) int {
	b.t.Helper()
	pid, err := (&cluster{dir: filepath.Join(b.dir, name)}).pid(program)
	if err != nil {
		b.t.Fatal(err)
	}
	return pid
}

func TestUpAndDown(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	kubeconfig := filepath.Join(b.dir, "k3s.kubeconfig")
	b.up("one", "--kubeconfig", kubeconfig)
	client := b.client(kubeconfig)
	deploy(b, client, "x/no-such-image:1")
	b.eventually("ready pods", func() (bool, error) {
		d, err := client.AppsV1().Deployments("default").Get(t.Context(), "web", metav1.GetOptions{})
		return err == nil && d.Status.ReadyReplicas == 2, err
	})
	b.eventually("a bound volume", func() (bool, error) {
		claim, err := client.CoreV1().PersistentVolumeClaims("default").Get(t.Context(), "data", metav1.GetOptions{})
		return err == nil && claim.Status.Phase == corev1.ClaimBound, err
	})

	if output := b.run("up", "--name", "one", "--while-pid", fmt.Sprint(os.Getpid())); !strings.Contains(output, "already up") {
		t.Errorf("a second up says %q", output)
	}
	if output, err := b.try("up", "--name", "one", "--profile", "aks", "--while-pid", fmt.Sprint(os.Getpid())); err == nil {
		t.Errorf("an up with another profile succeeded: %s", output)
	}
	if output := b.run("list"); !strings.Contains(output, "ready") {
		t.Errorf("list says %q", output)
	}

	// One that is slow to answer is somebody's nevertheless.
	apiserver := b.pid("one", "kube-apiserver")
	if err := syscall.Kill(apiserver, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	goesOn := time.AfterFunc(5*time.Second, func() { _ = syscall.Kill(apiserver, syscall.SIGCONT) })
	defer goesOn.Stop()
	if output := b.run("up", "--name", "one", "--while-pid", fmt.Sprint(os.Getpid())); !strings.Contains(output, "already up") {
		t.Errorf("an up of a slow cluster says %q", output)
	}

	// After a crash the next up starts anew.
	b.crash("one")
	b.up("one", "--kubeconfig", kubeconfig)
	pods, err := b.client(kubeconfig).CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{})
	if err != nil || len(pods.Items) != 0 {
		t.Errorf("after a crash: %v, %d pods", err, len(pods.Items))
	}

	b.run("down", "--name", "one")
	b.nothingLeft("one")
	if _, err := os.Stat(kubeconfig); !os.IsNotExist(err) {
		t.Errorf("the kubeconfig is left: %v", err)
	}
	b.run("down", "--name", "one") // nothing there is no error
}

func TestEndsWithProcess(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	process := exec.Command("sleep", "600")
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	b.run("up", "--name", "tied", "--profile", "eks", "--timeout", "5m", "--while-pid", fmt.Sprint(process.Process.Pid))
	if err := process.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = process.Wait()
	b.eventually("the cluster's end", func() (bool, error) {
		if _, err := os.Stat(filepath.Join(b.dir, "tied")); err == nil {
			return false, nil
		}
		pids, err := members(filepath.Join(b.dir, "tied"))
		return len(pids) == 0, err
	})
	b.nothingLeft("tied")
}

func TestLoadBalancers(t *testing.T) {
	t.Parallel()
	for profile, is := range map[string]struct {
		hostname bool
		class    string
	}{
		"aks": {},
		"gke": {class: "networking.gke.io/l4-rbs"},
		"eks": {class: "service.k8s.aws/nlb", hostname: true},
	} {
		t.Run(profile, func(t *testing.T) {
			b := newBench(t)
			kubeconfig := filepath.Join(b.dir, "kubeconfig")
			b.up(profile, "--profile", profile, "--kubeconfig", kubeconfig)
			services := b.client(kubeconfig).CoreV1().Services("default")
			create := func(name, class string, annotations map[string]string) {
				service := &corev1.Service{
					ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: annotations},
					Spec: corev1.ServiceSpec{
						Type:  corev1.ServiceTypeLoadBalancer,
						Ports: []corev1.ServicePort{{Port: 80}},
					},
				}
				if class != "" {
					service.Spec.LoadBalancerClass = &class
				}
				if _, err := services.Create(t.Context(), service, metav1.CreateOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			create("foreign", "example.com/other", nil)
			create("never", "", map[string]string{balancerDelay: "never"})
			create("slow", is.class, map[string]string{balancerDelay: "2s"})
			create("plain", "", nil)
			for _, name := range []string{"plain", "slow"} {
				b.eventually("an address of "+name, func() (bool, error) {
					service, err := services.Get(t.Context(), name, metav1.GetOptions{})
					if err != nil || len(service.Status.LoadBalancer.Ingress) == 0 {
						return false, err
					}
					address := service.Status.LoadBalancer.Ingress[0]
					if (address.Hostname != "") != is.hostname || (address.IP != "") == is.hostname {
						t.Errorf("%s has address %+v", name, address)
					}
					return true, nil
				})
			}
			for _, name := range []string{"foreign", "never"} {
				service, err := services.Get(t.Context(), name, metav1.GetOptions{})
				if err != nil || len(service.Status.LoadBalancer.Ingress) > 0 {
					t.Errorf("%s: %v, has address %v", name, err, service.Status.LoadBalancer.Ingress)
				}
			}
			if err := services.Delete(t.Context(), "plain", metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			b.eventually("the deleted Service to go", func() (bool, error) {
				_, err := services.Get(t.Context(), "plain", metav1.GetOptions{})
				return apierrors.IsNotFound(err), nil
			})
		})
	}
}

func TestKubeconfigOfAnotherUser(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.up("users")
	for _, is := range []struct {
		ttl    string
		reason metav1.StatusReason
	}{{"1h", metav1.StatusReasonForbidden}, {"-1h", metav1.StatusReasonUnauthorized}} {
		output := b.run("kubeconfig", "--name", "users", "--user", "bob", "--ttl="+is.ttl)
		file := filepath.Join(b.dir, "bob")
		if err := os.WriteFile(file, []byte(output), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := b.client(file).CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{})
		if apierrors.ReasonForError(err) != is.reason {
			t.Errorf("a certificate good for %s: %v, want %s", is.ttl, err, is.reason)
		}
	}
}

// TestContainerdNode needs root and the packages of `devcluster deps`, and
// fails without: nothing else shows that real pods run.
func TestContainerdNode(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", "build", "-trimpath", "-o", filepath.Join(filepath.Dir(self), "devcluster-demo"), "./devcluster-demo")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the demo server: %v\n%s", err, output)
	}
	b := newBench(t)
	kubeconfig := filepath.Join(b.dir, "kubeconfig")
	b.up("real", "--nodes", "containerd", "--kubeconfig", kubeconfig)
	client := b.client(kubeconfig)
	deploy(b, client, demoImage+":1")

	service, err := client.CoreV1().Services("default").Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: corev1.ServiceSpec{
			Type:     corev1.ServiceTypeNodePort,
			Selector: map[string]string{"app": "web"},
			Ports:    []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(8080)}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	url := fmt.Sprintf("http://127.0.0.1:%d/", service.Spec.Ports[0].NodePort)
	b.eventually("an answer on the node port", func() (bool, error) {
		answer, err := http.Get(url)
		if err != nil {
			return false, nil
		}
		body, err := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		return strings.Contains(string(body), "version 1"), err
	})
	b.eventually("ready pods", func() (bool, error) {
		d, err := client.AppsV1().Deployments("default").Get(t.Context(), "web", metav1.GetOptions{})
		return err == nil && d.Status.ReadyReplicas == 2, err
	})
	pods, err := client.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	b.eventually("its log", func() (bool, error) {
		logs, err := client.CoreV1().Pods("default").GetLogs(pods.Items[0].Name, &corev1.PodLogOptions{}).DoRaw(t.Context())
		return bytes.Contains(logs, []byte("listening on")), err
	})
	shell := execSelf("kubectl", "--name", "real", "--dir", b.dir, "--",
		"exec", pods.Items[0].Name, "--", "sh", "-c", "echo $((6*7)) from a shell; touch /data/x")
	if output, err := shell.CombinedOutput(); err != nil || !bytes.Contains(output, []byte("42 from a shell")) {
		t.Errorf("exec: %v: %s", err, output)
	}

	scale, err := client.AppsV1().Deployments("default").GetScale(t.Context(), "web", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	scale.Spec.Replicas, scale.ResourceVersion = 0, "" // its status may change meanwhile
	if _, err := client.AppsV1().Deployments("default").UpdateScale(t.Context(), "web", scale, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	b.eventually("pods to go", func() (bool, error) {
		pods, err := client.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{})
		return err == nil && len(pods.Items) == 0, err
	})
	b.eventually("the node port to refuse", func() (bool, error) {
		connection, err := net.Dial("tcp", strings.TrimSuffix(strings.TrimPrefix(url, "http://"), "/"))
		if err == nil {
			_ = connection.Close()
		}
		return err != nil, nil
	})

	scale.Spec.Replicas = 2
	if _, err := client.AppsV1().Deployments("default").UpdateScale(t.Context(), "web", scale, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	b.eventually("pods to come back", func() (bool, error) {
		d, err := client.AppsV1().Deployments("default").Get(t.Context(), "web", metav1.GetOptions{})
		return err == nil && d.Status.ObservedGeneration >= d.Generation && d.Status.ReadyReplicas == 2, err
	})
	// A crash with pods running must leave as little as an orderly end.
	b.crash("real")
	b.run("down", "--name", "real")
	b.nothingLeft("real")
}

func execSelf(args ...string) *exec.Cmd {
	command := exec.Command("/proc/self/exe", args...)
	command.Args[0] = "devcluster.test"
	command.Env = append(os.Environ(), asProgram+"=yes")
	return command
}

// deploy creates a Deployment of two pods that share a volume.
func deploy(b *bench, client kubernetes.Interface, image string) {
	b.t.Helper()
	ctx := b.t.Context()
	claim := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: "data"},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
		},
	}
	if _, err := client.CoreV1().PersistentVolumeClaims("default").Create(ctx, claim, metav1.CreateOptions{}); err != nil {
		b.t.Fatal(err)
	}
	replicas := int32(2)
	labels := map[string]string{"app": "web"}
	deployment := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{
					Volumes: []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{
						PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"}}}},
					Containers: []corev1.Container{{
						Name:         "main",
						Image:        image,
						VolumeMounts: []corev1.VolumeMount{{Name: "data", MountPath: "/data"}},
						ReadinessProbe: &corev1.Probe{PeriodSeconds: 1, ProbeHandler: corev1.ProbeHandler{
							HTTPGet: &corev1.HTTPGetAction{Path: "/health", Port: intstr.FromInt32(8080)}}},
					}},
				},
			},
		},
	}
	if _, err := client.AppsV1().Deployments("default").Create(ctx, deployment, metav1.CreateOptions{}); err != nil {
		b.t.Fatal(err)
	}
}
