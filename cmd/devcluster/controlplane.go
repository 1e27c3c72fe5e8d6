package main

import "strconv"

// etcd returns the arguments that run the cluster's database. It never waits
// for the disk: the cluster is thrown away. A request may take 25 s, 5 and twice
// the time of an election, before it fails: the machine may be busy.
func (c *cluster) etcd() []string {
	client := "https://127.0.0.1:" + strconv.Itoa(c.EtcdPort)
	peer := "https://127.0.0.1:" + strconv.Itoa(c.EtcdPeerPort)
	cert, key, ca := c.path("pki", "etcd.crt"), c.path("pki", "etcd.key"), c.path("pki", "ca.crt")
	return []string{
		"--name=devcluster",
		"--data-dir=" + c.path("etcd"),
		"--unsafe-no-fsync",
		"--listen-client-urls=" + client,
		"--advertise-client-urls=" + client,
		"--listen-peer-urls=" + peer,
		"--initial-advertise-peer-urls=" + peer,
		"--initial-cluster=devcluster=" + peer,
		"--client-cert-auth", "--cert-file=" + cert, "--key-file=" + key, "--trusted-ca-file=" + ca,
		"--peer-client-cert-auth", "--peer-cert-file=" + cert, "--peer-key-file=" + key, "--peer-trusted-ca-file=" + ca,
		"--election-timeout=10000",
		"--log-level=warn",
		"--auto-compaction-retention=5m",
		"--quota-backend-bytes=4294967296",
	}
}

func (c *cluster) apiserver() []string {
	args := []string{
		"--bind-address=127.0.0.1",
		"--secure-port=" + strconv.Itoa(c.APIPort),
		"--advertise-address=" + c.nodeIP(),
		"--etcd-servers=https://127.0.0.1:" + strconv.Itoa(c.EtcdPort),
		"--etcd-cafile=" + c.path("pki", "ca.crt"),
		"--etcd-certfile=" + c.path("pki", "apiserver-to-etcd.crt"),
		"--etcd-keyfile=" + c.path("pki", "apiserver-to-etcd.key"),
		"--tls-cert-file=" + c.path("pki", "apiserver.crt"),
		"--tls-private-key-file=" + c.path("pki", "apiserver.key"),
		"--client-ca-file=" + c.path("pki", "ca.crt"),
		"--kubelet-certificate-authority=" + c.path("pki", "ca.crt"),
		"--kubelet-client-certificate=" + c.path("pki", "apiserver-to-kubelet.crt"),
		"--kubelet-client-key=" + c.path("pki", "apiserver-to-kubelet.key"),
		"--kubelet-preferred-address-types=InternalIP",
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--service-cluster-ip-range=" + serviceCIDR,
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + c.path("pki", "service-accounts.key"),
		"--service-account-signing-key-file=" + c.path("pki", "service-accounts.key"),
		"--allow-privileged",
		"--max-requests-inflight=3000",
		"--max-mutating-requests-inflight=1000",
		"--profiling=false",
	}
	if profiles[c.Profile].token {
		args = append(args, "--token-auth-file="+c.path("pki", "tokens.csv"))
	}
	if c.AuthenticatorPort != 0 {
		// Asked each time, but for the ten seconds that an API server remembers
		// any token it has accepted.
		args = append(args, "--authentication-token-webhook-config-file="+c.tokenWebhook(),
			"--authentication-token-webhook-version=v1", "--authentication-token-webhook-cache-ttl=0s")
	}
	if c.IssuerPort != 0 {
		args = append(args, c.issuerFlags()...)
	}
	return args
}

// The controllers' default client limits make 500 pods take 24 s.
var clientLimits = []string{"--kube-api-qps=1000", "--kube-api-burst=2000"}

func (c *cluster) controllerManager() []string {
	return append([]string{
		"--kubeconfig=" + c.path("kube-controller-manager.kubeconfig"),
		"--use-service-account-credentials",
		"--service-account-private-key-file=" + c.path("pki", "service-accounts.key"),
		"--root-ca-file=" + c.path("pki", "ca.crt"),
		"--flex-volume-plugin-dir=" + c.path("volume-plugins"),
		"--cluster-signing-cert-file=" + c.path("pki", "ca.crt"),
		"--cluster-signing-key-file=" + c.path("pki", "ca.key"),
		"--node-monitor-grace-period=10m", // a node that the machine has no time for is not dead
		"--leader-elect=false",
		"--secure-port=0",
		"--profiling=false",
	}, clientLimits...)
}

func (c *cluster) scheduler() []string {
	return append([]string{
		"--kubeconfig=" + c.path("kube-scheduler.kubeconfig"),
		"--leader-elect=false",
		"--secure-port=0",
		"--profiling=false",
	}, clientLimits...)
}
