package live

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Trouble is why a pod does not serve.
type Trouble struct {
	Reason    string // one CamelCase word, Kubernetes' own where it gave one
	Message   string
	Pod       *Pod
	Container *ContainerStatus // nil = it is the pod's
	rank      int
}

// Trouble returns the worst of what keeps the pods from serving, or nil. A
// pod for which skip returns true is not looked at; skip may be nil.
func (s *Sight) Trouble(skip func(*Pod) bool) *Trouble {
	var all []*Trouble
	for i := range s.Pods {
		p := &s.Pods[i]
		if p.Deleting() || skip != nil && skip(p) {
			continue
		}
		if t := troubleOf(p); t != nil {
			all = append(all, t)
		}
	}
	if c := s.Controller; c != nil {
		for _, condition := range c.Status.Conditions {
			if condition.Type == "ReplicaFailure" && condition.Status == "True" {
				all = append(all, &Trouble{Reason: condition.Reason, Message: condition.Message, rank: rankBlocked})
			}
		}
	}
	if len(all) == 0 {
		return nil
	}
	return slices.MaxFunc(all, func(a, b *Trouble) int { return cmp.Compare(a.rank, b.rank) })
}

// The ranks of troubles: the higher, the more it explains.
const (
	rankOver    = iota // another pod takes its place
	rankWaiting        // begins as it should
	rankUnready
	rankUnschedulable
	rankEnded
	rankBlocked
)

// Hinders reports whether a trouble is more than what every pod passes through
// before it serves.
func (t *Trouble) Hinders() bool { return t.rank > rankUnready }

func troubleOf(p *Pod) *Trouble {
	if p.Ready() || p.Status.Phase == "Succeeded" {
		return nil
	}
	if p.Status.Reason != "" { // Evicted, NodeLost, …
		t := &Trouble{Reason: p.Status.Reason, Message: sentence(p.Name, p.Status.Message), Pod: p, rank: rankEnded}
		if p.Over() {
			t.rank = rankOver
		}
		return t
	}
	var worst *Trouble
	keep := func(t *Trouble) {
		if worst == nil || t.rank > worst.rank {
			worst = t
		}
	}
	for i := range p.Status.InitContainerStatuses {
		if t := troubleIn(p, &p.Status.InitContainerStatuses[i], true); t != nil {
			keep(t)
		}
	}
	for i := range p.Status.ContainerStatuses {
		if t := troubleIn(p, &p.Status.ContainerStatuses[i], false); t != nil {
			keep(t)
		}
	}
	if c := p.Condition("PodScheduled"); c != nil && c.Status == "False" {
		keep(&Trouble{Reason: cmp.Or(c.Reason, "Unschedulable"), Message: "No node takes the pod: " + c.Message, Pod: p, rank: rankUnschedulable})
	}
	if worst == nil {
		worst = &Trouble{Reason: "NotReady", Message: "Pod " + p.Name + " is not ready.", Pod: p, rank: rankUnready}
		if c := p.Condition("Ready"); c != nil && c.Message != "" {
			worst.Message = sentence("Pod "+p.Name+" is not ready", c.Message)
		}
		if p.Status.Phase == "Pending" {
			worst.Reason, worst.rank = "Pending", rankWaiting
		}
	}
	return worst
}

// troubleIn looks at one container. What merely begins is no more than
// waiting; an init container that has ended well is none.
func troubleIn(p *Pod, c *ContainerStatus, init bool) *Trouble {
	where := "Container " + c.Name + " of pod " + p.Name
	switch w, t := c.State.Waiting, c.State.Terminated; {
	case w != nil && (w.Reason == "ContainerCreating" || w.Reason == "PodInitializing" || w.Reason == ""):
		return &Trouble{Reason: cmp.Or(w.Reason, "Waiting"), Message: sentence(where+" is being made", w.Message), Pod: p, Container: c, rank: rankWaiting}
	case w != nil:
		message := w.Message
		if last := c.LastState.Terminated; w.Reason == "CrashLoopBackOff" && last != nil {
			message = fmt.Sprintf("it ended %d times, last with %s", c.RestartCount, ending(last.Reason, last.ExitCode, last.Signal))
		}
		return &Trouble{Reason: w.Reason, Message: sentence(where, message), Pod: p, Container: c, rank: rankBlocked}
	case t != nil && !(init && t.ExitCode == 0):
		return &Trouble{
			Reason: cmp.Or(t.Reason, "Error"), Message: sentence(where+" ended", ending(t.Reason, t.ExitCode, t.Signal)),
			Pod: p, Container: c, rank: rankEnded,
		}
	case !init && c.State.Running != nil && !c.Ready:
		t := &Trouble{Reason: "NotReady", Message: where + " runs but is not ready.", Pod: p, Container: c, rank: rankUnready}
		if last := c.LastState.Terminated; last != nil {
			t.Message = sentence(where+" runs again but is not ready", "before that it ended with "+ending(last.Reason, last.ExitCode, last.Signal))
		}
		return t
	}
	return nil
}

func ending(reason string, code, signal int32) string {
	text := fmt.Sprintf("exit code %d", code)
	if signal != 0 {
		text = fmt.Sprintf("signal %d", signal)
	}
	if reason != "" && reason != "Error" && reason != "Completed" {
		text += " (" + reason + ")"
	}
	return text
}

func sentence(subject, message string) string {
	message = strings.TrimRight(strings.TrimSpace(message), ".")
	if message == "" {
		return subject + "."
	}
	return subject + ": " + message + "."
}
