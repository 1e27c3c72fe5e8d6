package fleet

import (
	"slices"
	"strings"
	"time"
)

// Stage names one line of a connection test.
type Stage string

// The stages in the order in which they run. Those from StagePullSecrets on are
// optional: they warn or switch features off, and never fail the test.
const (
	StageCredential   Stage = "credential"
	StageResolve      Stage = "resolve"
	StageConnect      Stage = "connect"
	StageTLS          Stage = "tls"
	StageAuthenticate Stage = "authenticate"
	StageVersion      Stage = "version"
	StageNamespaces   Stage = "namespaces"
	StagePermissions  Stage = "permissions"
	StageExposure     Stage = "exposure"
	StagePullSecrets  Stage = "pull-secrets"
	StageMetrics      Stage = "metrics"
	StageExec         Stage = "exec"
	StageStorage      Stage = "storage"
	StageNetwork      Stage = "network"
)

// Stages lists every Stage in the order in which they run.
var Stages = []Stage{
	StageCredential, StageResolve, StageConnect, StageTLS, StageAuthenticate, StageVersion,
	StageNamespaces, StagePermissions, StageExposure, StagePullSecrets, StageMetrics, StageExec, StageStorage, StageNetwork,
}

// CheckState is the state of one stage.
type CheckState string

const (
	CheckPending CheckState = "pending"
	CheckRunning CheckState = "running"
	CheckOK      CheckState = "ok"
	CheckWarning CheckState = "warning"
	CheckFailed  CheckState = "failed"
	CheckSkipped CheckState = "skipped"
)

// Check is the outcome of one stage.
type Check struct {
	Stage    Stage         `json:"stage"`
	State    CheckState    `json:"state"`
	Duration time.Duration `json:"duration"`
	Message  string        `json:"message,omitempty"`
	Remedy   string        `json:"remedy,omitempty"`
}

// TestState is the state of a connection test, and of a cluster that has one.
type TestState string

const (
	TestUntested TestState = "untested" // none for the present configuration
	TestRunning  TestState = "running"
	TestOK       TestState = "ok"
	TestFailed   TestState = "failed"
)

// TestTrigger says why a test ran.
type TestTrigger string

const (
	TriggerPerson   TestTrigger = "person"
	TriggerSchedule TestTrigger = "schedule"
	TriggerFile     TestTrigger = "file" // a mounted kubeconfig changed
)

// ConnectionTest is one run of the staged test.
type ConnectionTest struct {
	ID            int64
	ClusterID     string
	Fingerprint   string // of the configuration that was tested
	State         TestState
	Trigger       TestTrigger
	Actor         string // e-mail address of who asked; "" for the schedule
	StartedAt     time.Time
	FinishedAt    time.Time // zero while it runs
	Deadline      time.Duration
	Checks        []Check
	ServerVersion string          // e.g. v1.36.3
	Identity      string          // the user name the API server sees; "" = it does not say
	Pinned        ClusterIdentity // by what the cluster is recognised from then on, if the test passes; without a UID as before
	Permissions   []PermissionRow // what was asked and answered
	Credential    CredentialFacts
	Trial         bool // of a credential that is not in use: it decides nothing about the cluster
	Watched       bool // a person waits for its end; not stored
}

// DueTest is a cluster that is due for a test.
type DueTest struct {
	ClusterID string
	By        string // e-mail address of who asked for it; "" = nobody did
}

// ExpiryWarning is how long before its end a credential is warned of: long
// enough to get a new one by way of somebody else.
const ExpiryWarning = 14 * 24 * time.Hour

// CredentialFacts describes a kubeconfig without revealing it.
type CredentialFacts struct {
	Kind      string    `json:"kind,omitempty"`     // client certificate, token, …
	Subject   string    `json:"subject,omitempty"`  // of the certificate or token
	Server    string    `json:"server,omitempty"`   // URL of the API server
	Context   string    `json:"context,omitempty"`  // the context that is used
	NotAfter  time.Time `json:"notAfter,omitzero"`  // of the credential; zero = it does not say
	CAExpires time.Time `json:"caExpires,omitzero"` // of the authority's certificates, the next to end
}

// Failed returns the first failed check, or nil.
func (t *ConnectionTest) Failed() *Check {
	for i := range t.Checks {
		if t.Checks[i].State == CheckFailed {
			return &t.Checks[i]
		}
	}
	return nil
}

// ManifestPath is the address of the least role of a cluster, by its id.
func ManifestPath(id string) string { return "/admin/clusters/" + id + "/rbac.yaml" }

// NeedsManifest reports whether a check has failed for what the cluster's least role
// would give: its remedy names that.
func (c *Check) NeedsManifest(id string) bool {
	return c.State == CheckFailed && strings.Contains(c.Remedy, ManifestPath(id))
}

// Features are the optional stages that switch something off.
var Features = []Stage{StageMetrics, StageExec, StageStorage, StageNetwork}

// Feature reports whether an optional stage found its feature usable, and what
// it said.
func (t *ConnectionTest) Feature(s Stage) (ok bool, reason string) {
	for _, c := range t.Checks {
		if c.Stage == s {
			return c.State == CheckOK, c.Message
		}
	}
	return false, "not tested yet"
}

// Tried reports whether the test came to an answer about a stage: one that failed
// before it, or has not got there yet, knows nothing of it.
func (t *ConnectionTest) Tried(s Stage) bool {
	return slices.ContainsFunc(t.Checks, func(c Check) bool {
		return c.Stage == s && (c.State == CheckOK || c.State == CheckWarning || c.State == CheckFailed)
	})
}

// PermissionRow is the answer to one access review.
type PermissionRow struct {
	Permission
	Namespace string `json:"namespace"`
	Allowed   bool   `json:"allowed"`
}
