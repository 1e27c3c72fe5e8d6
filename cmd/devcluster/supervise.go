package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// superviseCommand is the one process of a cluster that `up` leaves running: it
// runs the others, and the controllers a provider would run.
type superviseCommand struct {
	At string `required:""`
}

// Run returns when the cluster is to end: on a signal, or when the process the
// cluster is tied to has ended. It then removes what there is of the cluster.
func (s *superviseCommand) Run() error {
	c, err := loadClusterAt(s.At)
	if err != nil {
		return err
	}
	if err := c.recordPID("supervisor", os.Getpid()); err != nil {
		return err
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	signal.Ignore(syscall.SIGHUP, syscall.SIGPIPE)

	ctx, end := context.WithCancelCause(context.Background())
	go func() {
		select {
		case <-signals:
			end(errAsked)
		case <-ended(c.WhilePID):
			end(errAsked)
		}
	}()
	if c.AuthenticatorPort != 0 {
		if err := c.serveAuthenticator(); err != nil {
			return err
		}
	}
	if c.IssuerPort != 0 {
		if err := c.serveIssuer(); err != nil {
			return err
		}
	}
	r := newRunner(c)
	r.start(program{name: "etcd", args: c.etcd()})
	r.start(program{name: "kube-apiserver", args: c.apiserver()})
	if c.real() {
		if err := c.serveNode(r); err != nil {
			return err
		}
	}
	go func() { end(c.superviseReady(ctx, r)) }()
	if err := r.run(ctx); !errors.Is(err, errAsked) {
		return err // the folder stays, for its logs
	}
	return removeCluster(c.dir)
}

// errAsked ends a supervisor that has been told to end.
var errAsked = errors.New("asked to end")

// superviseReady starts what needs the API server to answer.
func (c *cluster) superviseReady(ctx context.Context, r *runner) error {
	if err := c.waitReadyz(ctx); err != nil {
		return err
	}
	r.start(program{name: "kube-controller-manager", args: c.controllerManager()})
	r.start(program{name: "kube-scheduler", args: c.scheduler()})
	if !c.real() {
		r.start(program{name: "kwok", args: c.kwok()})
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	return c.runControllers(ctx, client)
}

// client is one with all rights and no limits.
func (c *cluster) client() (kubernetes.Interface, error) {
	config, err := c.restConfig()
	if err != nil {
		return nil, err
	}
	return kubernetes.NewForConfig(config)
}

func (c *cluster) restConfig() (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", c.path("admin.kubeconfig"))
	if err != nil {
		return nil, err
	}
	config.QPS = -1
	return config, nil
}

// waitReadyz waits until the API server says it is ready.
func (c *cluster) waitReadyz(ctx context.Context) error {
	return poll(ctx, 50*time.Millisecond, func() (bool, error) { return c.answers(ctx), nil })
}

// answers says whether the API server says that it is ready.
func (c *cluster) answers(ctx context.Context) bool {
	ca, err := os.ReadFile(c.path("pki", "ca.crt"))
	if err != nil {
		return false
	}
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM(ca)
	client := &http.Client{
		Timeout:   15 * time.Second, // it may be busy, and says so in its own time
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted}},
	}
	defer client.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.server()+"/readyz", nil)
	if err != nil {
		return false
	}
	response, err := client.Do(request)
	if err != nil {
		return false
	}
	_ = response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// poll calls done now and then until it says so, fails, or ctx ends.
func poll(ctx context.Context, every time.Duration, done func() (bool, error)) error {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
	}
}

// ended is closed when process pid ends; never, if pid is 0.
func ended(pid int) <-chan struct{} {
	done := make(chan struct{})
	if pid == 0 {
		return done
	}
	go func() {
		defer close(done)
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			return // no such process, any more
		}
		defer func() { _ = unix.Close(fd) }()
		for {
			_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
			if err != unix.EINTR {
				return
			}
		}
	}()
	return done
}

// serveNode starts the node and lets it reach the API server, which listens on
// this host's loopback only, through a socket in the cluster's folder.
func (c *cluster) serveNode(r *runner) error {
	listener, err := net.Listen("unix", c.path("api.sock"))
	if err != nil {
		return fmt.Errorf("listening for the node: %w", err)
	}
	go forward(listener, "tcp", fmt.Sprintf("127.0.0.1:%d", c.APIPort))
	r.start(program{
		name:    "node",
		path:    "/proc/self/exe",
		args:    []string{"node", "--at", c.dir},
		flags:   unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
		started: c.joinNode,
	})
	return nil
}
