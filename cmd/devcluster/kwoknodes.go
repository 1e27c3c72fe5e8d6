package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	nodefast "sigs.k8s.io/kwok/kustomize/stage/node/fast"
	nodeheartbeat "sigs.k8s.io/kwok/kustomize/stage/node/heartbeat-with-lease"
	podfast "sigs.k8s.io/kwok/kustomize/stage/pod/fast"
)

// kwokNode marks the nodes that kwok plays.
const kwokNode = "kwok.x-k8s.io/node"

const kwokNodes = 2

func (c *cluster) kwok() []string {
	return []string{
		"--kubeconfig=" + c.path("kwok.kubeconfig"),
		"--config=" + c.path("kwok.yaml"),
		"--manage-all-nodes=false",
		"--manage-nodes-with-annotation-selector=" + kwokNode + "=fake",
		"--node-lease-duration-seconds=40",
		"--node-ip=" + c.nodeIP(),
		"--cidr=198.19.0.0/16",
	}
}

// writeKwokConfig gives kwok its stages: what nodes and pods go through, here
// with no delay.
func (c *cluster) writeKwokConfig() error {
	stages := []string{
		nodefast.DefaultNodeInit,
		nodeheartbeat.DefaultNodeHeartbeatWithLease,
		podfast.DefaultPodReady,
		podfast.DefaultPodComplete,
		podfast.DefaultPodDelete,
	}
	return os.WriteFile(c.path("kwok.yaml"), []byte(strings.Join(stages, "\n---\n")), 0o600)
}

func (c *cluster) createKwokNodes(ctx context.Context, client kubernetes.Interface) error {
	for i := range kwokNodes {
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{
			Name:        fmt.Sprintf("%s-%d", c.nodeName(), i+1),
			Annotations: map[string]string{kwokNode: "fake"},
			Labels: map[string]string{
				corev1.LabelHostname:   fmt.Sprintf("%s-%d", c.nodeName(), i+1),
				corev1.LabelOSStable:   "linux",
				corev1.LabelArchStable: "amd64",
			},
		}}
		if _, err := client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	return nil
}
