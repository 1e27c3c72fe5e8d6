package kube

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/client-go/rest"

	"portolan/internal/fleet"
	"portolan/internal/kube/cloud"
)

// DefaultTestDeadline bounds a connection test that names no deadline.
const DefaultTestDeadline = 15 * time.Second

// Tester runs connection tests.
type Tester struct{ opts Options }

// NewTester returns a Tester. Its connections obey the same policy as those of
// Clients.
func NewTester(opts Options) *Tester { return &Tester{opts: opts} }

// TestRequest says what is tested.
type TestRequest struct {
	Cluster       fleet.Cluster
	Kubeconfig    []byte                // as the Source gives it
	KubeconfigErr error                 // why it could not be read; nil = it could
	Cloud         fleet.CloudCredential // sealed with the cluster; zero = this machine's
	Deadline      time.Duration         // of the whole test; 0 = DefaultTestDeadline

	// Pinned is the cluster that earlier tests saw; without a UID they saw none. A
	// test that may have found another fails.
	Pinned fleet.ClusterIdentity

	// Yield, if not nil, is called before each stage and request of a test that
	// nobody waits for, and may let others go first. Such a test asks few
	// questions, and of the API server's cache those whose answers cannot fail it:
	// the tests of a thousand clusters must leave room for pages.
	Yield func(context.Context)

	Trigger fleet.TestTrigger
	Actor   string
}

// Run runs the stages in order under one deadline. After a required stage has
// failed, the later ones are skipped. progress, which may be nil, is called
// with the test so far whenever a stage begins or ends; its Checks go on changing
// when progress has returned. The result
// is bound to the fingerprint of the configuration with the given bytes. When
// ctx ends before the test does, the test fails and means nothing; the caller
// can tell by ctx.Err.
func (t *Tester) Run(ctx context.Context, req TestRequest, progress func(fleet.ConnectionTest)) fleet.ConnectionTest {
	if req.Deadline <= 0 {
		req.Deadline = DefaultTestDeadline
	}
	if progress == nil {
		progress = func(fleet.ConnectionTest) {}
	}
	if req.KubeconfigErr == nil {
		req.Cluster.CredentialHash = Hash(req.Kubeconfig)
		if req.Cloud.Cloud != "" {
			destination := req.Cluster.Cloud.Destination
			req.Cluster.Cloud = req.Cloud.Identity()
			req.Cluster.Cloud.Destination = destination
		}
	}
	r := &run{
		opts:   t.opts,
		req:    req,
		absent: map[string]bool{},
		test: fleet.ConnectionTest{
			ClusterID:   req.Cluster.ID,
			Fingerprint: req.Cluster.Fingerprint(),
			State:       fleet.TestRunning,
			Trigger:     req.Trigger,
			Actor:       req.Actor,
			StartedAt:   time.Now(),
			Deadline:    req.Deadline,
		},
	}
	defer r.close()
	for _, s := range stages {
		r.test.Checks = append(r.test.Checks, fleet.Check{Stage: s.stage, State: fleet.CheckPending})
	}
	ctx, cancel := context.WithTimeout(ctx, req.Deadline)
	defer cancel()
	state := fleet.TestOK
	for i, s := range stages {
		check := &r.test.Checks[i]
		switch {
		case state == fleet.TestFailed:
			check.State, check.Message = fleet.CheckSkipped, "not tried"
			continue
		case s.optional && ctx.Err() != nil:
			check.State, check.Message = fleet.CheckSkipped, "not tried: the test ran out of time"
			continue
		}
		check.State = fleet.CheckRunning
		progress(r.test)
		r.yield(ctx)
		r.began = time.Now()
		out := s.run(r, ctx)
		check.Duration = time.Since(r.began)
		check.State, check.Message, check.Remedy = out.state, out.message, out.remedy
		if out.state == fleet.CheckFailed {
			if s.optional {
				check.State = fleet.CheckWarning
			} else {
				state = fleet.TestFailed
			}
		}
		progress(r.test)
	}
	r.test.State, r.test.FinishedAt = state, time.Now()
	return r.test
}

// run is one connection test under way: what the stages so far have found.
type run struct {
	opts Options
	req  TestRequest
	test fleet.ConnectionTest

	began      time.Time // of the present stage
	config     *rest.Config
	endpoint   endpoint
	recipe     cloud.Recipe // of the credential; nil = the kubeconfig holds it itself
	host, port string
	way        way
	conn       net.Conn                 // from connect to tls
	tlsConfig  *tls.Config              // of every connection
	greeted    atomic.Pointer[tls.Conn] // from tls to the first request, which is sent on it
	opened     connections              // all from the handshake on
	base       *http.Transport
	client     *http.Client
	absent     map[string]bool // namespaces that deploy would have to make
}

// quiet reports whether nobody waits for the test.
func (r *run) quiet() bool { return r.req.Yield != nil }

// yield lets others go first, if nobody waits for the test.
func (r *run) yield(ctx context.Context) {
	if r.quiet() {
		r.req.Yield(ctx)
	}
}

// waited is how long the present stage has taken.
func (r *run) waited() string { return seconds(time.Since(r.began).Round(100 * time.Millisecond)) }

func (r *run) close() {
	if r.conn != nil {
		r.conn.Close()
	}
	r.opened.close()
	if r.base != nil {
		r.base.CloseIdleConnections() // which forgets them
	}
}

// connections are those of one test. They end with it, also those with a request
// that nobody waits for any more.
type connections struct {
	mu    sync.Mutex
	open  []net.Conn
	ended bool
}

// add closes conn and returns net.ErrClosed if the test has ended.
func (c *connections) add(conn net.Conn) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		conn.Close()
		return net.ErrClosed
	}
	c.open = append(c.open, conn)
	return nil
}

func (c *connections) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	for _, conn := range c.open {
		conn.Close()
	}
}

// share bounds one of the stages that talk to a stranger, so that a silent
// server leaves time to say at which stage it fell silent. No stage is more patient
// than what uses the cluster once the test has passed.
func (r *run) share(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, min(r.req.Deadline/3, TLSTimeout))
}

var stages = []struct {
	stage    fleet.Stage
	optional bool
	run      func(*run, context.Context) outcome
}{
	{stage: fleet.StageCredential, run: (*run).credential},
	{stage: fleet.StageResolve, run: (*run).resolve},
	{stage: fleet.StageConnect, run: (*run).connect},
	{stage: fleet.StageTLS, run: (*run).handshake},
	{stage: fleet.StageAuthenticate, run: (*run).authenticate},
	{stage: fleet.StageVersion, run: (*run).version},
	{stage: fleet.StageNamespaces, run: (*run).namespaces},
	{stage: fleet.StagePermissions, run: (*run).permissions},
	{stage: fleet.StageExposure, run: (*run).exposure},
	{stage: fleet.StagePullSecrets, optional: true, run: (*run).pullSecrets},
	{stage: fleet.StageMetrics, optional: true, run: (*run).metrics},
	{stage: fleet.StageExec, optional: true, run: (*run).exec},
	{stage: fleet.StageStorage, optional: true, run: (*run).storage},
	{stage: fleet.StageNetwork, optional: true, run: (*run).network},
}

// outcome is what a stage comes to.
type outcome struct {
	state           fleet.CheckState
	message, remedy string
}

func passed(format string, args ...any) outcome {
	return outcome{state: fleet.CheckOK, message: fmt.Sprintf(format, args...)}
}

func failed(remedy, format string, args ...any) outcome {
	return outcome{state: fleet.CheckFailed, message: fmt.Sprintf(format, args...), remedy: remedy}
}

func warned(remedy, format string, args ...any) outcome {
	return outcome{state: fleet.CheckWarning, message: fmt.Sprintf(format, args...), remedy: remedy}
}

func skipped(format string, args ...any) outcome {
	return outcome{state: fleet.CheckSkipped, message: fmt.Sprintf(format, args...)}
}

// timedOut reports whether err is the end of a wait rather than an answer.
func timedOut(err error) bool {
	var timeout net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, errNoAnswer) || (errors.As(err, &timeout) && timeout.Timeout())
}

// seconds writes a duration as people say it: "5 s", "0.4 s".
func seconds(d time.Duration) string {
	if d >= 10*time.Second || d%time.Second == 0 {
		return fmt.Sprintf("%.0f s", d.Seconds())
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

// day writes a date with its time of day, in UTC.
func day(t time.Time) string { return t.UTC().Format("2 January 2006 15:04 MST") }
