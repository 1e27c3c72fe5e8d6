package e2e

import (
	"fmt"
	"testing"
	"time"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// benchPhase measures how long after a pod's Ready is seen in the API the
// workload's new phase arrives in an open stream. In between, Kubernetes' own
// controllers have to take notice of the pod; their part is told apart.
func benchPhase(b *testing.B, x *bench) {
	const warmUps, rounds = 10, 200
	pl := x.portolan(b).settle(b, simulated, nil)
	// With a health check, pods are available as soon as they are ready.
	w := pl.deploy(b, probed)
	pod := w.pods(b)[0].Name

	// Rounds are told apart by the reason that each puts into the condition.
	seen := newTimes()
	pods, err := pl.kubectl.CoreV1().Pods(pl.namespace).Watch(b.Context(), metav1.ListOptions{FieldSelector: "metadata.name=" + pod})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(pods.Stop)
	go func() {
		for e := range pods.ResultChan() {
			at := time.Now()
			if p, ok := e.Object.(*core.Pod); ok {
				for _, c := range p.Status.Conditions {
					if c.Type == core.PodReady {
						seen.add("pod "+c.Reason, at)
					}
				}
			}
		}
	}()
	deployments, err := pl.kubectl.AppsV1().Deployments(pl.namespace).Watch(b.Context(), metav1.ListOptions{FieldSelector: "metadata.name=" + w.name})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(deployments.Stop)
	available := make(chan time.Time, 1024)
	go func() {
		before := int32(1)
		for e := range deployments.ResultChan() {
			at := time.Now()
			if d, ok := e.Object.(*apps.Deployment); ok {
				if now := d.Status.AvailableReplicas; now != before {
					if before = now; now == 1 {
						available <- at
					}
				}
			}
		}
	}()

	s := w.open(b, w.path("/stream"), "")
	ready := func(round int, status core.ConditionStatus, phase string) message {
		patch := fmt.Sprintf(`{"status":{"conditions":[{"type":"Ready","status":%q,"reason":"Round%d%s","lastTransitionTime":%q}]}}`,
			status, round, status, time.Now().UTC().Format(time.RFC3339))
		if _, err := pl.kubectl.CoreV1().Pods(pl.namespace).Patch(b.Context(), pod, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}, "status"); err != nil {
			b.Fatal(err)
		}
		read := s.until(b, patience, "the phase "+phase, func(m message) bool { return w.markers(m.fragment())["phase"] == phase })
		return read[len(read)-1]
	}
	var total, own []time.Duration
	for i := range warmUps + rounds {
		ready(i, core.ConditionFalse, "degraded")
		arrived := ready(i, core.ConditionTrue, "running").at
		at := seen.await(b, fmt.Sprintf("pod Round%dTrue", i))
		var up time.Time
		select {
		case up = <-available:
		case <-time.After(patience):
			b.Fatal("the Deployment is shown as running and its status has not become available")
		}
		if i >= warmUps {
			total, own = append(total, arrived.Sub(at)), append(own, arrived.Sub(up))
		}
	}
	p99 := percentile(total, 0.99)
	x.report(b, line{
		what: "pod Ready in the API until the phase is in an open stream",
		measured: fmt.Sprintf("%d times: p50 %s, p99 %s, max %s; after the Deployment's status p50 %s, p99 %s",
			len(total), ms(median(total)), ms(p99), ms(percentile(total, 1)), ms(median(own)), ms(percentile(own, 0.99))),
		result: ms(p99), aim: "p99 ≤ 250 ms", met: p99 <= 250*time.Millisecond,
	}, map[string]float64{"phase-p50-ms": millis(median(total)), "phase-p99-ms": millis(p99), "own-p99-ms": millis(percentile(own, 0.99))})
}
