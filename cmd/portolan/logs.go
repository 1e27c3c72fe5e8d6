package main

import (
	"context"

	"portolan/internal/adapter"
	"portolan/internal/fleet"
	"portolan/internal/postgres"
	"portolan/internal/web"
)

// logs opens the logs of workloads on the clusters that they run on.
type logs struct {
	db      *postgres.DB
	adapter *adapter.Adapter
}

// OpenLog begins to read a log.
func (l logs) OpenLog(ctx context.Context, q fleet.LogQuery) (web.LogStream, error) {
	cluster, err := l.db.Cluster(ctx, q.Workload.ClusterID)
	if err != nil {
		return nil, err
	}
	stream, err := l.adapter.OpenLog(ctx, &cluster, q)
	if err != nil {
		return nil, err
	}
	return stream, nil
}
