package main

import (
	"log/slog"
	"net"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// nodePorts are the listeners on this host's loopback that stand for the node's
// ports of the same numbers; nil for one that another program has taken, for now.
type nodePorts map[int32]net.Listener

// reconcileNodePorts listens for each TCP node port that has a ready pod behind
// it and that the node serves already, which is a little later: one without
// refuses connections as the node itself would, and none is taken to be closed.
func (k *controllers) reconcileNodePorts() (wait, error) {
	wanted, err := k.servedNodePorts()
	if err != nil {
		return 0, err
	}
	var next wait
	for port, listener := range k.nodePorts {
		if !wanted[port] {
			if listener != nil {
				_ = listener.Close()
			}
			delete(k.nodePorts, port)
		}
	}
	for port := range wanted {
		known, tried := k.nodePorts[port]
		if known != nil {
			continue
		}
		number := strconv.Itoa(int(port))
		onNode := net.JoinHostPort(k.cluster.nodeIP(), number)
		if !answers(onNode) {
			next = next.sooner(wait(100 * time.Millisecond))
			continue
		}
		listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", number))
		if err != nil {
			if !tried {
				slog.Warn("node port is not on the loopback, only on the node", "node", k.cluster.nodeIP(), "error", err)
			}
			k.nodePorts[port] = nil
			next = next.sooner(wait(2 * time.Second))
			continue
		}
		k.nodePorts[port] = listener
		go forward(listener, "tcp", onNode)
	}
	return next, nil
}

// answers reports whether connections to an address are taken.
func answers(address string) bool {
	connection, err := net.DialTimeout("tcp", address, time.Second)
	if err != nil {
		return false
	}
	_ = connection.Close()
	return true
}

func (k *controllers) servedNodePorts() (map[int32]bool, error) {
	services, err := k.services.List(labels.Everything())
	if err != nil {
		return nil, err
	}
	served := map[int32]bool{}
	for _, service := range services {
		for _, port := range service.Spec.Ports {
			if port.NodePort == 0 || port.Protocol != corev1.ProtocolTCP {
				continue
			}
			ready, err := k.hasReadyPod(service)
			if err != nil {
				return nil, err
			}
			if ready {
				served[port.NodePort] = true
			}
		}
	}
	return served, nil
}

func (k *controllers) hasReadyPod(service *corev1.Service) (bool, error) {
	ofService := labels.SelectorFromSet(labels.Set{discoveryv1.LabelServiceName: service.Name})
	slices, err := k.endpointSlices.EndpointSlices(service.Namespace).List(ofService)
	if err != nil {
		return false, err
	}
	for _, slice := range slices {
		for _, endpoint := range slice.Endpoints {
			if endpoint.Conditions.Ready != nil && *endpoint.Conditions.Ready {
				return true, nil
			}
		}
	}
	return false, nil
}
