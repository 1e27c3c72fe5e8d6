package fleet

import "strings"

// TargetPrefix begins the name of every target on a Kubernetes cluster.
const TargetPrefix = "k8s:"

// ParseTarget returns the cluster id in a target's name.
func ParseTarget(name string) (clusterID string, ok bool) {
	id, ok := strings.CutPrefix(name, TargetPrefix)
	return id, ok && ValidClusterID(id)
}

// Status is a cluster with what decides whether it is a target.
type Status struct {
	Cluster Cluster
	Test    *ConnectionTest // the latest finished one, of whatever configuration; nil = none
	Running bool            // a test is running now
}

// TestState is the state of the cluster's present configuration: a test of
// another configuration counts for nothing.
func (s *Status) TestState() TestState {
	switch {
	case s.Running:
		return TestRunning
	case s.Test == nil || s.Test.Fingerprint != s.Cluster.Fingerprint():
		return TestUntested
	default:
		return s.Test.State
	}
}

// Verdict is the state that decides: like TestState, but a test that is still
// running changes nothing until it has ended.
func (s *Status) Verdict() TestState {
	settled := Status{Cluster: s.Cluster, Test: s.Test}
	return settled.TestState()
}

// Credential describes the present credential: as it says itself, or else as the
// latest test saw it.
func (s *Status) Credential() CredentialFacts {
	if s.Cluster.Credential == (CredentialFacts{}) && s.Test != nil && s.Test.Fingerprint == s.Cluster.Fingerprint() {
		return s.Test.Credential
	}
	return s.Cluster.Credential
}

// IsTarget reports whether workloads may be deployed there. It is the only
// rule that makes a target.
func (s *Status) IsTarget() bool { return s.WhyNotTarget() == "" }

// WhyNotTarget says in a few words why the cluster is not a target, or "".
func (s *Status) WhyNotTarget() string {
	switch {
	case !s.Cluster.Enabled:
		return "disabled"
	case s.Cluster.CredentialHash == "":
		return "its kubeconfig cannot be read"
	}
	switch s.Verdict() {
	case TestOK:
		return ""
	case TestFailed:
		if c := s.Test.Failed(); c != nil {
			return "failed at " + string(c.Stage)
		}
		return "its test failed"
	default:
		if s.Test != nil {
			return "changed since its test"
		}
		return "untested"
	}
}
