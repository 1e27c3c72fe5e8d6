package adapter

import (
	"testing"

	corev1 "k8s.io/api/core/v1"

	"portolan/internal/fleet"
	"portolan/internal/kube/live"
)

func TestNoAnnotationStandsForOneOfPortolans(t *testing.T) {
	t.Parallel()
	b := ofRuntime(t, "openclaw")
	forged := map[string]string{live.AnnotationRelease: "99", "example.com/kept": "yes"}
	b.spec.ServiceAnnotations = forged
	b.cluster.Exposure = fleet.Exposure{Mode: fleet.ExposureLoadBalancer, Annotations: forged}
	got := decoded[corev1.Service](t, b.service(nil)).Annotations
	if got[live.AnnotationRelease] != "3" || got["example.com/kept"] != "yes" {
		t.Errorf("annotations %v", got)
	}
}
