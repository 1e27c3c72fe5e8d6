package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

const (
	// balancerDelay on a Service says how long its address takes to come, in
	// place of the profile's time: a duration such as "5s", or "never".
	balancerDelay = "devcluster.portolan.dev/lb-delay"
	// balancerError on a Service makes its load balancer fail, with an event
	// that has this text, as one over quota would.
	balancerError = "devcluster.portolan.dev/lb-error"
	// balancerFinalizer is what the providers' controllers put on a Service
	// until its load balancer is gone.
	balancerFinalizer = "service.kubernetes.io/load-balancer-cleanup"
)

// balancers are the Services whose load balancers are under way or there, with
// the time each was first seen.
type balancers map[types.UID]time.Time

func (k *controllers) reconcileBalancers(ctx context.Context) (wait, error) {
	services, err := k.services.List(labels.Everything())
	if err != nil {
		return 0, err
	}
	var next wait
	for _, service := range services {
		again, err := k.reconcileBalancer(ctx, service, services)
		if err != nil && !overtaken(err) {
			return 0, fmt.Errorf("load balancer of %s/%s: %w", service.Namespace, service.Name, err)
		}
		next = next.sooner(again)
	}
	return next, nil
}

func (k *controllers) reconcileBalancer(ctx context.Context, service *corev1.Service, all []*corev1.Service) (wait, error) {
	if !k.balances(service) {
		delete(k.balancers, service.UID)
		return 0, k.releaseBalancer(ctx, service)
	}
	seen, known := k.balancers[service.UID]
	if !known {
		seen = time.Now()
		k.balancers[service.UID] = seen
		k.recorder.Event(service, corev1.EventTypeNormal, "EnsuringLoadBalancer", "Ensuring load balancer")
		if text := service.Annotations[balancerError]; text != "" {
			k.recorder.Event(service, corev1.EventTypeWarning, "SyncLoadBalancerFailed", "Error syncing load balancer: "+text)
		}
	}
	if !slices.Contains(service.Finalizers, balancerFinalizer) {
		changed := service.DeepCopy()
		changed.Finalizers = append(changed.Finalizers, balancerFinalizer)
		_, err := k.client.CoreV1().Services(service.Namespace).Update(ctx, changed, metav1.UpdateOptions{})
		return 0, err // its change brings us back
	}
	if len(service.Status.LoadBalancer.Ingress) > 0 || service.Annotations[balancerError] != "" {
		return 0, nil
	}
	delay := profiles[k.cluster.Profile].balancer.delay
	if text, ok := service.Annotations[balancerDelay]; ok {
		parsed, err := time.ParseDuration(text)
		if err != nil {
			return 0, nil // "never"
		}
		delay = parsed
	}
	if left := time.Until(seen.Add(delay)); left > 0 {
		return wait(left), nil
	}
	changed := service.DeepCopy()
	changed.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{k.address(service, all)}
	if _, err := k.client.CoreV1().Services(service.Namespace).UpdateStatus(ctx, changed, metav1.UpdateOptions{}); err != nil {
		return 0, err
	}
	// The next Service must not be given the same address while the cache is behind.
	service.Status.LoadBalancer = changed.Status.LoadBalancer
	k.recorder.Event(service, corev1.EventTypeNormal, "EnsuredLoadBalancer", "Ensured load balancer")
	return 0, nil
}

// balances says whether the Service should have a load balancer of this provider.
func (k *controllers) balances(service *corev1.Service) bool {
	class := service.Spec.LoadBalancerClass
	return service.Spec.Type == corev1.ServiceTypeLoadBalancer &&
		service.DeletionTimestamp == nil &&
		(class == nil || slices.Contains(profiles[k.cluster.Profile].balancer.classes, *class))
}

// releaseBalancer lets a Service go, or be of another type, once its load
// balancer is gone.
func (k *controllers) releaseBalancer(ctx context.Context, service *corev1.Service) error {
	i := slices.Index(service.Finalizers, balancerFinalizer)
	if i < 0 {
		return nil
	}
	changed := service.DeepCopy()
	if len(changed.Status.LoadBalancer.Ingress) > 0 && service.DeletionTimestamp == nil {
		changed.Status.LoadBalancer = corev1.LoadBalancerStatus{}
		_, err := k.client.CoreV1().Services(service.Namespace).UpdateStatus(ctx, changed, metav1.UpdateOptions{})
		return err
	}
	changed.Finalizers = slices.Delete(changed.Finalizers, i, i+1)
	_, err := k.client.CoreV1().Services(service.Namespace).Update(ctx, changed, metav1.UpdateOptions{})
	return err
}

// address is a new one, as the provider would give.
func (k *controllers) address(service *corev1.Service, all []*corev1.Service) corev1.LoadBalancerIngress {
	if profiles[k.cluster.Profile].balancer.hostname {
		id := strings.ReplaceAll(string(service.UID), "-", "")
		return corev1.LoadBalancerIngress{Hostname: id + ".elb.eu-west-1.devcluster.test"}
	}
	taken := map[string]bool{}
	for _, other := range all {
		for _, ingress := range other.Status.LoadBalancer.Ingress {
			taken[ingress.IP] = true
		}
	}
	n := 0
	for taken[k.cluster.balancerIP(n)] {
		n++
	}
	return corev1.LoadBalancerIngress{IP: k.cluster.balancerIP(n)}
}
