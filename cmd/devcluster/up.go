package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// upCommand starts a cluster.
type upCommand struct {
	Name       string        `required:"" help:"Name of the cluster."`
	Profile    string        `default:"k3s" enum:"k3s,aks,gke,eks" help:"Whose cluster it behaves like: ${enum}."`
	Nodes      string        `default:"kwok" enum:"kwok,containerd" help:"kwok: simulated, without root. containerd: one real node, as root."`
	Dir        string        `help:"Folder of the clusters (default: $$PORTOLAN_DEVCLUSTER_DIR, else in the user's cache)."`
	Kubeconfig string        `type:"path" help:"Write a kubeconfig to this file; it goes when the cluster goes."`
	WhilePID   int           `name:"while-pid" help:"End the cluster when this process ends."`
	Timeout    time.Duration `default:"90s" help:"Give up after this long."`
}

// Run returns when the cluster is ready. One of that name that a crash left is
// removed first; one that answers is left alone.
func (u *upCommand) Run() error {
	dir, err := clusterDir(u.Dir, u.Name)
	if err != nil {
		return err
	}
	unlock, err := lockCluster(dir)
	if err != nil {
		return err
	}
	defer unlock()
	ctx, cancel := context.WithTimeoutCause(context.Background(), u.Timeout,
		fmt.Errorf("not ready after %v", u.Timeout))
	defer cancel()

	begun := time.Now()
	if old, err := loadClusterAt(dir); err == nil && old.healthy(ctx, u.Timeout/2) {
		return u.keep(old)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		fmt.Printf("%s: removing what is left of an earlier one\n", u.Name)
	}
	if err := removeCluster(dir); err != nil {
		return err
	}
	c := &cluster{Name: u.Name, Profile: u.Profile, Nodes: u.Nodes, Kubeconfig: u.Kubeconfig, WhilePID: u.WhilePID, dir: dir}
	if err := c.up(ctx); err != nil {
		logs := c.lastLogs()
		return errors.Join(fmt.Errorf("%s did not come up: %w%s", u.Name, err, logs), removeCluster(dir))
	}
	fmt.Printf("%s: ready in %.1f s at %s\n", c.Name, time.Since(begun).Seconds(), c.server())
	return nil
}

// keep leaves a cluster that is up as it is, but for its kubeconfig.
func (u *upCommand) keep(c *cluster) error {
	if c.Profile != u.Profile || c.Nodes != u.Nodes {
		return fmt.Errorf("%s is up with profile %s and %s nodes; take it down first", c.Name, c.Profile, c.Nodes)
	}
	if u.WhilePID != c.WhilePID {
		return fmt.Errorf("%s is up and tied to process %d (0: none), not %d; take it down first", c.Name, c.WhilePID, u.WhilePID)
	}
	if u.Kubeconfig != "" {
		if err := c.handOut(u.Kubeconfig); err != nil {
			return err
		}
	}
	fmt.Printf("%s: already up at %s\n", c.Name, c.server())
	return nil
}

// healthy says whether the cluster was ready once, still runs, and answers
// within patience: on a busy machine that takes a while, and others use it.
func (c *cluster) healthy(ctx context.Context, patience time.Duration) bool {
	if !c.Ready || !c.supervised() {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return poll(ctx, 50*time.Millisecond, func() (bool, error) {
		if !c.supervised() {
			return false, errNoCluster
		}
		return c.answers(ctx), nil
	}) == nil
}

// supervised says whether the process that runs the others is there: without it
// they end.
func (c *cluster) supervised() bool {
	pid, err := c.pid("supervisor")
	if err != nil {
		return false
	}
	pids, err := members(c.dir)
	return err == nil && slices.Contains(pids, pid)
}

func (c *cluster) up(ctx context.Context) error {
	if c.real() {
		if err := checkNodeNeeds(c.dir); err != nil {
			return err
		}
	}
	var reserved reservation
	defer func() { reserved.release() }()
	if err := c.prepare(&reserved); err != nil {
		return err
	}
	c.say("starting etcd and the control plane")
	supervisor, err := c.spawnSupervisor()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		cancel(fmt.Errorf("its supervisor ended: %v", supervisor.Wait()))
	}()

	imported := make(chan error, 1)
	if c.real() {
		go func() { imported <- c.importImages(ctx) }()
	} else {
		imported <- nil
	}
	if err := c.waitReadyz(ctx); err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	c.say("API server ready; waiting for %s nodes", c.Nodes)
	if err := c.furnish(ctx, client); err != nil {
		return err
	}
	if err := <-imported; err != nil {
		return err
	}
	if err := c.waitReady(ctx, client); err != nil {
		return err
	}
	if c.Kubeconfig != "" {
		if err := c.handOut(c.Kubeconfig); err != nil {
			return err
		}
	}
	c.Ready = true
	return c.save()
}

func (c *cluster) say(format string, args ...any) {
	fmt.Printf("%s: "+format+"\n", append([]any{c.Name}, args...)...)
}

// prepare fills the cluster's folder with all its programs read.
func (c *cluster) prepare(reserved *reservation) error {
	for _, dir := range []string{"log", "pids", "etcd"} {
		if err := os.MkdirAll(c.path(dir), 0o700); err != nil {
			return err
		}
	}
	var err error
	ports := []*int{&c.APIPort, &c.EtcdPort, &c.EtcdPeerPort}
	if profiles[c.Profile].plugin != nil {
		ports = append(ports, &c.AuthenticatorPort)
	} else {
		ports = append(ports, &c.IssuerPort)
	}
	for _, port := range ports {
		if *port, err = reserved.takePort(); err != nil {
			return err
		}
	}
	if c.real() {
		if c.Link, err = reserved.takeLink(); err != nil {
			return err
		}
	}
	if err := c.save(); err != nil {
		return err
	}
	if err := c.writePKI(); err != nil {
		return err
	}
	if err := c.writeTokens(); err != nil {
		return err
	}
	if c.AuthenticatorPort != 0 {
		if err := c.writeTokenWebhook(); err != nil {
			return err
		}
	}
	if c.real() {
		return c.writeNodeConfig()
	}
	return c.writeKwokConfig()
}

// spawnSupervisor starts the process that outlives this one.
func (c *cluster) spawnSupervisor() (*exec.Cmd, error) {
	output, err := os.Create(c.path("log", "supervisor.log"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = output.Close() }()
	supervisor := exec.Command("/proc/self/exe", "supervise", "--at", c.dir)
	supervisor.Args[0] = "devcluster"
	supervisor.Dir = "/"
	supervisor.Env = memberEnvironment(c.dir)
	supervisor.Stdout, supervisor.Stderr = output, output
	supervisor.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return supervisor, supervisor.Start()
}

// furnish creates what a provider's cluster comes with.
func (c *cluster) furnish(ctx context.Context, client kubernetes.Interface) error {
	binding, reclaim := storagev1.VolumeBindingWaitForFirstConsumer, corev1.PersistentVolumeReclaimDelete
	class := &storagev1.StorageClass{
		ObjectMeta: metav1.ObjectMeta{
			Name:        profiles[c.Profile].storageClass,
			Annotations: map[string]string{"storageclass.kubernetes.io/is-default-class": "true"},
		},
		Provisioner:       provisioner,
		VolumeBindingMode: &binding,
		ReclaimPolicy:     &reclaim,
	}
	if _, err := client.StorageV1().StorageClasses().Create(ctx, class, metav1.CreateOptions{}); err != nil {
		return err
	}
	if !c.real() {
		return c.createKwokNodes(ctx, client)
	}
	// The address that pods are told to ask for names. Nobody serves there, so
	// asking fails at once.
	dns := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "kube-dns", Namespace: metav1.NamespaceSystem},
		Spec: corev1.ServiceSpec{ClusterIP: dnsServiceIP, Ports: []corev1.ServicePort{
			{Name: "dns", Protocol: corev1.ProtocolUDP, Port: 53},
			{Name: "dns-tcp", Protocol: corev1.ProtocolTCP, Port: 53},
		}},
	}
	if _, err := client.CoreV1().Services(dns.Namespace).Create(ctx, dns, metav1.CreateOptions{}); err != nil {
		return err
	}
	return nil
}

// waitReady waits until pods can run: all nodes ready and the service account
// there that pods run as.
func (c *cluster) waitReady(ctx context.Context, client kubernetes.Interface) error {
	err := poll(ctx, 50*time.Millisecond, func() (bool, error) {
		_, err := client.CoreV1().ServiceAccounts("default").Get(ctx, "default", metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return false, nil
		}
		return err == nil, err
	})
	if err != nil {
		return fmt.Errorf("waiting for the default service account: %w", err)
	}
	want := 1
	if !c.real() {
		want = kwokNodes
	}
	err = poll(ctx, 50*time.Millisecond, func() (bool, error) {
		nodes, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		if err != nil {
			return false, err
		}
		ready := 0
		for _, node := range nodes.Items {
			if nodeReady(&node) {
				ready++
			}
		}
		return ready >= want, nil
	})
	if err != nil {
		return fmt.Errorf("waiting for nodes to be ready: %w", err)
	}
	return nil
}

// nodeReady says whether pods would be scheduled to the node now.
func nodeReady(node *corev1.Node) bool {
	if len(node.Spec.Taints) > 0 {
		return false
	}
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}

// handOut writes the kubeconfig a person is given.
func (c *cluster) handOut(path string) error {
	config, err := c.userKubeconfig()
	if err != nil {
		return err
	}
	if err := writeKubeconfig(path, config); err != nil {
		return fmt.Errorf("writing the kubeconfig: %w", err)
	}
	c.Kubeconfig = path
	return c.save()
}

// lastLogs is the end of each program's log, to tell why a cluster failed.
func (c *cluster) lastLogs() string {
	var text bytes.Buffer
	files, _ := filepath.Glob(c.path("log", "*.log"))
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		lines := bytes.Split(bytes.TrimSpace(data), []byte("\n"))
		fmt.Fprintf(&text, "\n--- end of %s\n%s", filepath.Base(file),
			bytes.Join(lines[max(0, len(lines)-8):], []byte("\n")))
	}
	return text.String()
}
