package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	discoverylisters "k8s.io/client-go/listers/discovery/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
)

// controllers do what a provider's own controllers would: load balancers,
// volumes, and ports of the node on this host.
type controllers struct {
	cluster  *cluster
	client   kubernetes.Interface
	recorder record.EventRecorder

	services       corelisters.ServiceLister
	endpointSlices discoverylisters.EndpointSliceLister
	claims         corelisters.PersistentVolumeClaimLister
	volumes        corelisters.PersistentVolumeLister

	balancers balancers
	nodePorts nodePorts
}

// wait is how long a reconciliation may be left alone, if nothing changes;
// 0 for as long as nothing changes.
type wait time.Duration

// sooner is the shorter of two waits.
func (w wait) sooner(other wait) wait {
	if w == 0 || other != 0 && other < w {
		return other
	}
	return w
}

// runControllers looks at everything again whenever anything changed, which is
// cheap enough for a cluster on one machine and misses nothing.
func (c *cluster) runControllers(ctx context.Context, client kubernetes.Interface) error {
	events := record.NewBroadcaster(record.WithContext(ctx))
	events.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: client.CoreV1().Events("")})
	defer events.Shutdown()

	factory := informers.NewSharedInformerFactory(client, 0)
	k := &controllers{
		cluster:        c,
		client:         client,
		recorder:       events.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "service-controller"}),
		services:       factory.Core().V1().Services().Lister(),
		endpointSlices: factory.Discovery().V1().EndpointSlices().Lister(),
		claims:         factory.Core().V1().PersistentVolumeClaims().Lister(),
		volumes:        factory.Core().V1().PersistentVolumes().Lister(),
		balancers:      balancers{},
		nodePorts:      nodePorts{},
	}
	changed := make(chan struct{}, 1)
	notify := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	for _, informer := range []cache.SharedIndexInformer{
		factory.Core().V1().Services().Informer(),
		factory.Discovery().V1().EndpointSlices().Informer(),
		factory.Core().V1().PersistentVolumeClaims().Informer(),
		factory.Core().V1().PersistentVolumes().Informer(),
	} {
		_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    func(any) { notify() },
			UpdateFunc: func(any, any) { notify() },
			DeleteFunc: func(any) { notify() },
		})
		if err != nil {
			return err
		}
	}
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())

	for {
		next, err := k.reconcile(ctx)
		if err != nil && ctx.Err() == nil {
			slog.Warn("controllers: will try again", "error", err)
			next = next.sooner(wait(time.Second))
		}
		var timer <-chan time.Time
		if next != 0 {
			timer = time.After(time.Duration(next))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-timer:
		}
	}
}

func (k *controllers) reconcile(ctx context.Context) (wait, error) {
	next, err := k.reconcileBalancers(ctx)
	err = errors.Join(err, k.reconcileVolumes(ctx))
	if k.cluster.real() {
		again, failed := k.reconcileNodePorts()
		next, err = next.sooner(again), errors.Join(err, failed)
	}
	return next, err
}

// overtaken says that an error only means that the object changed or went since
// it was read, so that it will be looked at again anyway.
func overtaken(err error) bool {
	return apierrors.IsConflict(err) || apierrors.IsNotFound(err) || apierrors.IsAlreadyExists(err)
}
