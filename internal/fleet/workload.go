package fleet

import (
	"fmt"
	"strings"
	"time"
)

// WorkloadKind is the Kubernetes kind that holds a workload's pods.
type WorkloadKind string

const (
	KindDeployment  WorkloadKind = "Deployment"
	KindStatefulSet WorkloadKind = "StatefulSet"
)

// Workload is the thing an operator runs. Its namespace and cluster are those
// it was made with, whatever the cluster's row says later.
type Workload struct {
	ID        string // UUID
	Name      string // a DNS-1123 label of at most 50 characters; all its objects are named after it
	ClusterID string
	Namespace string
	Runtime   string
	Kind      WorkloadKind
	Release   int   // number of the release that is wanted
	Replicas  int32 // wanted while it is not stopped; kept through a stop
	Stopped   bool  // a stop was asked for, and no start since
	CreatedBy string
	CreatedAt time.Time
	UpdatedAt time.Time
}

// Target names where the workload runs.
func (w *Workload) Target() string { return TargetPrefix + w.ClusterID }

// Release is an immutable numbered snapshot of a workload's wanted spec.
type Release struct {
	WorkloadID    string
	Number        int // from 1
	Spec          Spec
	SealedSecrets []byte // the values of Spec.SecretEnv, sealed; nil = none
	SealedKeyID   string // the key that sealed them
	From          int    // the release it repeats, for a rollback; 0 = none
	Succeeded     bool   // an operation brought it up
	CreatedBy     string
	CreatedAt     time.Time
}

// Spec is what a workload's pods and objects are made from. It is stored as
// JSON, so names and meanings of its fields are kept. It holds no secret value.
type Spec struct {
	Kind               WorkloadKind      `json:"kind"`
	Image              string            `json:"image"`
	Command            []string          `json:"command,omitempty"` // empty = the image's own
	Args               []string          `json:"args,omitempty"`
	Env                []EnvVar          `json:"env,omitempty"`
	SecretEnv          []string          `json:"secretEnv,omitempty"` // names; values are sealed beside the spec
	Ports              []Port            `json:"ports,omitempty"`
	Replicas           int32             `json:"replicas"`
	Resources          Resources         `json:"resources"`
	Volumes            []Volume          `json:"volumes,omitempty"`
	Files              []File            `json:"files,omitempty"`
	Bootstrap          string            `json:"bootstrap,omitempty"` // text of bootstrap.sh; "" = none
	Health             *HealthCheck      `json:"health,omitempty"`
	Sidecars           []Container       `json:"sidecars,omitempty"`
	InitContainers     []Container       `json:"initContainers,omitempty"`
	PullSecrets        []string          `json:"pullSecrets,omitempty"`
	NodeSelector       map[string]string `json:"nodeSelector,omitempty"`
	ServiceAnnotations map[string]string `json:"serviceAnnotations,omitempty"`
	Capabilities       []string          `json:"capabilities,omitempty"` // kept; all others are dropped
}

// EnvVar is one environment variable.
type EnvVar struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Port is one port of the workload, TCP, the same number on pod and Service.
type Port struct {
	Name   string `json:"name"` // an IANA service name of at most 15 characters
	Number int32  `json:"number"`
}

// Resources are the requests and, equal to them, the limits of the main
// container, as Kubernetes quantities; "" = none.
type Resources struct {
	CPU              string `json:"cpu,omitempty"`
	Memory           string `json:"memory,omitempty"`
	EphemeralStorage string `json:"ephemeralStorage,omitempty"`
	GPU              string `json:"gpu,omitempty"` // nvidia.com/gpu, a whole number
}

// Volume is a PersistentVolumeClaim mounted in the main container.
type Volume struct {
	Name         string `json:"name"` // the claim is <workload>-<name>
	MountPath    string `json:"mountPath"`
	Size         string `json:"size"`                   // a quantity, such as 10Gi
	StorageClass string `json:"storageClass,omitempty"` // "" = the cluster's default
}

// Sharing says what it means that so many pods hold the same volumes, or "" where
// that is no question. A node holds a volume for all its pods, and no other can
// meanwhile: https://kubernetes.io/docs/concepts/storage/persistent-volumes/#access-modes
func (s *Spec) Sharing(replicas int32) string {
	if replicas < 2 || len(s.Volumes) == 0 {
		return ""
	}
	names := make([]string, len(s.Volumes))
	for i, v := range s.Volumes {
		names[i] = v.Name
	}
	what, it := "volume", "it"
	if len(names) > 1 {
		what, it = "volumes", "them"
	}
	return fmt.Sprintf("%d pods share the %s %s: on several nodes only those of one can start, and what is in %s must be made for several writers.",
		replicas, what, strings.Join(names, ", "), it)
}

// File is a configuration file mounted read-only in the main container.
type File struct {
	Path    string `json:"path"` // absolute
	Content string `json:"content"`
}

// HealthCheck tells Kubernetes when the main container has started and is
// ready.
type HealthCheck struct {
	Type             string   `json:"type"`           // tcp, http, exec
	Port             string   `json:"port,omitempty"` // a port's name or number; tcp and http
	Path             string   `json:"path,omitempty"` // http
	Command          []string `json:"command,omitempty"`
	PeriodSeconds    int32    `json:"periodSeconds,omitempty"`    // 0 = soon: 2 at startup, 5 after it
	FailureThreshold int32    `json:"failureThreshold,omitempty"` // of the startup probe; 0 = as many as make 5 minutes
}

// Container is a sidecar or an init container.
type Container struct {
	Name    string   `json:"name"`
	Image   string   `json:"image"`
	Command []string `json:"command,omitempty"`
	Args    []string `json:"args,omitempty"`
	Env     []EnvVar `json:"env,omitempty"`
}
