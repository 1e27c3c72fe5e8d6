package main

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// writeNodeConfig writes the configuration of the node's programs.
func (c *cluster) writeNodeConfig() error {
	for _, dir := range []string{"node/var-log", "node/sysctl", "node/cni", "node/kubelet"} {
		if err := os.MkdirAll(c.path(dir), 0o700); err != nil {
			return err
		}
	}
	files := map[string]string{
		"containerd.toml":            c.containerdConfig(),
		"cni/10-devcluster.conflist": c.cniConfig(),
		"kubelet.yaml":               c.kubeletConfig(),
		"kube-proxy.yaml":            c.kubeProxyConfig(),
		"resolv.conf":                "nameserver 127.0.0.1\n",
	}
	for name, text := range files {
		if err := os.WriteFile(c.path("node", name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (c *cluster) containerdSocket() string { return c.path("containerd.sock") }

// containerdConfig: restrict_oom_score_adj because runc may not lower a score
// where the machine's own processes run at a raised one.
func (c *cluster) containerdConfig() string {
	snapshotter := "overlayfs"
	var at unix.Statfs_t
	if unix.Statfs(c.dir, &at) == nil && at.Type == unix.OVERLAYFS_SUPER_MAGIC {
		snapshotter = "native" // overlays do not stack
	}
	return fmt.Sprintf(`version = 2
root = %q
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.internal.v1.opt",
  "io.containerd.internal.v1.tracing",
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
]
[grpc]
  address = %q
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = %q
  restrict_oom_score_adj = true
  disable_apparmor = true
  enable_unprivileged_ports = true
  enable_unprivileged_icmp = true
[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = %q
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  SystemdCgroup = false
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = %q
  conf_dir = %q
`, c.path("node", "containerd"), c.containerdSocket(), pauseImage, snapshotter, cniPlugins, c.path("node", "cni"))
}

// cniConfig is a bridge inside the node; what leaves it is routed by the host.
func (c *cluster) cniConfig() string {
	return fmt.Sprintf(`{
  "cniVersion": "0.4.0",
  "name": "devcluster",
  "plugins": [
    {
      "type": "bridge",
      "bridge": "cni0",
      "isGateway": true,
      "hairpinMode": true,
      "ipam": {
        "type": "host-local",
        "ranges": [[{"subnet": %q}]],
        "routes": [{"dst": "0.0.0.0/0"}]
      }
    },
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}
`, c.podCIDR())
}

func (c *cluster) kubelet() []string {
	return []string{
		"--config=" + c.path("node", "kubelet.yaml"),
		"--kubeconfig=" + c.path("kubelet.kubeconfig"),
		"--root-dir=" + c.path("node", "kubelet"),
		"--cert-dir=" + c.path("node", "kubelet", "pki"),
		"--hostname-override=" + c.nodeName(),
		"--node-ip=" + c.nodeIP(),
		// With the usual number, 1, a container that is starting counts as the dead one to keep, and the log of the run before
		// is removed under the eyes of who reads it.
		"--maximum-dead-containers-per-container=3",
	}
}

// kubeletConfig: nothing is evicted or collected, the disk is not ours to judge.
func (c *cluster) kubeletConfig() string {
	return strings.NewReplacer(
		"{PKI}", c.path("pki"),
		"{SOCKET}", c.containerdSocket(),
		"{CGROUP}", "/"+cgroupName(c.dir),
		"{NODE}", c.path("node"),
		"{IP}", c.nodeIP(),
		"{DNS}", dnsServiceIP,
	).Replace(`apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: "{IP}"
authentication:
  anonymous:
    enabled: false
  webhook:
    enabled: true
  x509:
    clientCAFile: {PKI}/ca.crt
authorization:
  mode: Webhook
tlsCertFile: {PKI}/kubelet.crt
tlsPrivateKeyFile: {PKI}/kubelet.key
containerRuntimeEndpoint: unix://{SOCKET}
cgroupDriver: cgroupfs
cgroupRoot: {CGROUP}
failCgroupV1: false
failSwapOn: false
enforceNodeAllocatable: []
evictionHard: {}
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
localStorageCapacityIsolation: false
maxPods: 120
serializeImagePulls: false
kubeAPIQPS: 200
kubeAPIBurst: 400
eventRecordQPS: 0
nodeStatusUpdateFrequency: 5s
volumePluginDir: {NODE}/volume-plugins
resolvConf: {NODE}/resolv.conf
clusterDNS: ["{DNS}"]
clusterDomain: cluster.local
`)
}

func (c *cluster) kubeProxy() []string {
	return []string{"--config=" + c.path("node", "kube-proxy.yaml")}
}

func (c *cluster) kubeProxyConfig() string {
	return fmt.Sprintf(`apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: iptables
clusterCIDR: %q
hostnameOverride: %q
clientConnection:
  kubeconfig: %s
iptables:
  # Else pods of one bridge would answer each other past the translation.
  masqueradeAll: true
  minSyncPeriod: 0s
# The kernel's table is the host's, so its limits are too.
conntrack:
  maxPerCore: 0
  tcpEstablishedTimeout: 0s
  tcpCloseWaitTimeout: 0s
`, c.podCIDR(), c.nodeName(), c.path("kube-proxy.kubeconfig"))
}
