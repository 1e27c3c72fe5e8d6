package live

import (
	"strings"

	"k8s.io/apimachinery/pkg/labels"
)

// Labels and annotations on the objects that Portolan makes.
const (
	LabelName         = "app.kubernetes.io/name"
	LabelInstance     = "app.kubernetes.io/instance"
	LabelManagedBy    = "app.kubernetes.io/managed-by"
	LabelWorkload     = "portolan.dev/workload"     // the workload's id
	LabelTarget       = "portolan.dev/target"       // the cluster's id; the colon of k8s:<id> is not allowed in a label
	LabelRuntime      = "portolan.dev/runtime"      // the runtime's id
	LabelInstallation = "portolan.dev/installation" // keeps two Portolans in one cluster apart

	AnnotationRelease            = "portolan.dev/release"              // number of the release an object was applied from
	AnnotationReplicasBeforeStop = "portolan.dev/replicas-before-stop" // what start restores
	AnnotationSecretRelease      = "portolan.dev/secret-release"       // the release that last changed the secret's values
	AnnotationConfigChecksum     = "portolan.dev/config-checksum"      // of the config files' content
	AnnotationKept               = "portolan.dev/kept"                 // on a volume that was kept: the name of the workload that was deleted
	AnnotationRestartedAt        = "kubectl.kubernetes.io/restartedAt" // kubectl's own, so that its history reads the same
)

// Manager is the value of LabelManagedBy and the one field manager.
const Manager = "portolan"

// SelectAll selects every object of an installation.
func SelectAll(installation string) string {
	return labels.Set{LabelManagedBy: Manager, LabelInstallation: installation}.String()
}

// SelectWorkloads selects the objects of some workloads, at least one.
func SelectWorkloads(installation string, ids []string) string {
	return SelectAll(installation) + "," + LabelWorkload + " in (" + strings.Join(ids, ",") + ")"
}

// SelectWorkload selects the objects of one workload.
func SelectWorkload(installation, workloadID string) string {
	return labels.Set{LabelManagedBy: Manager, LabelInstallation: installation, LabelWorkload: workloadID}.String()
}
