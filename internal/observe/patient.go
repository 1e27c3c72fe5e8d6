package observe

import (
	"context"
	"time"

	"portolan/internal/fleet"
)

// storeTime bounds what a watch asks of the store. A database may be slow; where
// it has vanished without a word, another connection may reach its successor.
const storeTime = 30 * time.Second

// errStore is where the store failed, which says nothing about the cluster.
type errStore struct{ error }

func (e errStore) Unwrap() error { return e.error }

// patient is a Store that takes storeTime for what a watch asks at most, and
// whose errors then are errStore.
type patient struct{ Store }

func bounded(ctx context.Context, ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	if err := ask(ctx); err != nil {
		return errStore{err}
	}
	return nil
}

func (p patient) PinnedIdentity(ctx context.Context, clusterID string) (pinned fleet.ClusterIdentity, err error) {
	err = bounded(ctx, func(ctx context.Context) (err error) {
		pinned, err = p.Store.PinnedIdentity(ctx, clusterID)
		return err
	})
	return pinned, err
}

func (p patient) Workloads(ctx context.Context, clusterID, namespace string) (list []fleet.Watched, err error) {
	err = bounded(ctx, func(ctx context.Context) (err error) {
		list, err = p.Store.Workloads(ctx, clusterID, namespace)
		return err
	})
	return list, err
}

func (p patient) SaveObservation(ctx context.Context, holder string, o fleet.Observation, ended int64) error {
	return bounded(ctx, func(ctx context.Context) error { return p.Store.SaveObservation(ctx, holder, o, ended) })
}

func (p patient) MarkAlive(ctx context.Context, holder, clusterID, namespace string, at time.Time) error {
	return bounded(ctx, func(ctx context.Context) error { return p.Store.MarkAlive(ctx, holder, clusterID, namespace, at) })
}

func (p patient) MarkBroken(ctx context.Context, holder, clusterID, namespace, message string) error {
	return bounded(ctx, func(ctx context.Context) error { return p.Store.MarkBroken(ctx, holder, clusterID, namespace, message) })
}
