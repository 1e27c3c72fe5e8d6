// Package kube is the only place that makes Kubernetes clients. It reads
// kubeconfigs as hostile input, turns what is sound into clients whose
// connections are guarded, and runs the connection test that decides whether a
// cluster may be a target.
package kube
