package views

import (
	"time"

	"portolan/views/ui"
)

// Deploy is the deploy page. Its form holds the deploy fields by the names that
// the POST uses.
type Deploy struct {
	Form       ui.Form
	Targets    []TargetCard
	NotOffered []NotOffered
	Runtimes   []RuntimeChoice
	Preview    *Preview
	Registered int  // clusters in all, for what an empty page advises
	Typed      bool // the form holds what a person has typed: it is shown although there is no target

	Notes map[string][]ui.Note // what targets have not, by field
}

// TargetCard is one cluster that can be deployed to.
type TargetCard struct {
	Value              string // k8s:<id>
	Label, ClusterName string
	Provider, Region   string
	Version, Exposure  string
	TestedAt           time.Time
	Storage            string // why volumes may want a storage class named; "" = there is a default
	PullSecrets        string // what is wrong with the cluster's pull secrets; "" = nothing
}

// NotOffered is a cluster that is no target, and why.
type NotOffered struct {
	ID, Label, Reason string
}

// RuntimeChoice is one runtime with what it starts from.
type RuntimeChoice struct {
	ID, Label, Note string
	Image           string   // the default; empty when it has to be given
	Ports           []string // name=number
	Volumes         []string // name=/path size
	Probe           string   // such as "tcp, 10 s × 60"
}

// Preview is what a deploy would make.
type Preview struct {
	Problem string // why nothing can be made; Objects may then be empty
	Remedy  string
	Fields  map[string]string // errors by field
	DryRun  bool              // the cluster itself has answered
	Objects []PreviewObject
}

// PreviewObject is one object of a Preview.
type PreviewObject struct {
	Kind, Name, Summary string
	Action              string // create, configure, unchanged, delete, recreate, conflict or refused
	Problem             string
	Diff                string
	YAML                string
}

// WorkloadEdit is the form that edits a workload: the deploy fields without
// target, runtime and name, which stay.
type WorkloadEdit struct {
	ID, Name, Runtime, Target, Namespace string
	Release                              int
	Stopped                              bool
	Form                                 ui.Form
	Runtimes                             []RuntimeChoice
	SecretKeys                           []string // kept when left blank
	Notes                                []string // such as what a Recreate means
	Changes                              []Change // what others have saved since the form was made
}
