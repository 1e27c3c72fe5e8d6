package fleet

// Situation is what decides which verbs a workload's page offers.
type Situation struct {
	Target     Status // the workload's cluster
	Reachable  bool   // by the last observation
	Workload   Workload
	Unfinished *Operation // the one that runs now; nil = none
}

// Allows returns nil when verb may begin now, else an Error that says why not
// and what to do. It is the only place that decides.
func (s *Situation) Allows(verb Verb) error {
	if s.Unfinished != nil {
		e := Conflict("%s is busy: its %s has not ended yet.", s.Workload.Name, s.Unfinished.Verb)
		e.Remedy = "Wait for it, or cancel it on its operation's page."
		return e
	}
	if verb == VerbForget {
		// It is for a cluster that is gone for good, or where something else is
		// now: while the right one answers, delete is the way.
		if !s.Reachable || s.Target.Verdict() == TestFailed {
			return nil
		}
		e := Conflict("The cluster of %s answers, so there is no need to forget what runs there.", s.Workload.Name)
		e.Remedy = "Delete the workload: that removes its objects as well."
		return e
	}
	if !s.Target.Cluster.Enabled && verb != VerbStop && verb != VerbDelete {
		e := Conflict("The cluster %s is disabled: what runs there can only be stopped or deleted.", s.Target.Cluster.Label)
		e.Remedy = "An admin can enable it on the cluster's page."
		return e
	}
	if !s.Reachable {
		e := Unavailable("The cluster %s cannot be reached now, so nothing can be done to %s: %s requires Kubernetes.", s.Target.Cluster.Label, s.Workload.Name, verb)
		e.Remedy = "Look at the cluster's page: its test says what is wrong. Portolan goes on trying by itself."
		return e
	}
	if s.Workload.Stopped && (verb == VerbRestart || verb == VerbScale) {
		e := Conflict("%s is stopped, so there is nothing to %s.", s.Workload.Name, verb)
		e.Remedy = "Start it first."
		return e
	}
	return nil
}

// Role returns the least role that may begin verb.
func (v Verb) Role() Role {
	if v == VerbForget {
		return RoleAdmin
	}
	return RoleOperator
}
