package views

import (
	"time"

	"portolan/views/ui"
)

// Clusters is the list of the registry.
type Clusters struct {
	All, Available, Failed, Untested, Disabled int
	Expiring                                   int    // credentials that end soon
	ExpiringNote                               string // such as "Credential ends in 9 days"
	Status                                     string // the chosen filter, empty for all
	Query                                      string
	Rows                                       []ClusterRow
	Next                                       string // address of the next page; empty at the end
	Found                                      []FoundConfig
	FoundError                                 string // why the folder could not be read
}

// ClusterRow is one cluster of the list.
type ClusterRow struct {
	ID, Label, ClusterName string
	Provider               string // as chosen: kubernetes, kind, k3s, aks, gke, eks
	Exposure, Version      string
	TestState              string // untested, running, ok or failed
	TestStage              string // the stage that failed
	TestNote               string // why it failed, or why it is untested
	TestAt                 time.Time
	TestTook               time.Duration
	CredentialEnds         time.Time // where that is soon, or was
	CredentialEnded        bool
	Enabled                bool
	Workloads              int
	Allows                 []Allowance
}

// Allowance is something of a kubeconfig that an admin has allowed knowingly,
// and that people should see.
type Allowance struct {
	Name string // tls-skip or proxy
	Word string
}

// FoundConfig is a kubeconfig of the mounted folder with contexts that no
// cluster uses.
type FoundConfig struct {
	Path     string // relative to the root
	Context  string // the one that Register is about
	Server   string // of Context
	Contexts []FoundContext
	Used     int    // further contexts, which clusters use
	Problem  string // why it cannot be used; Register is then empty
	Register string // address of the form, filled in
}

// FoundContext is a context that can be registered.
type FoundContext struct {
	Name     string
	Register string // address of the form, filled in
}

// otherContexts are the contexts of f beside the one that is named first, as
// many of them as a line holds, and how many more there are.
func otherContexts(f FoundConfig) (shown []FoundContext, more int) {
	const held = 4
	for _, c := range f.Contexts {
		if c.Name == f.Context {
			continue
		}
		if len(shown) < held {
			shown = append(shown, c)
		} else {
			more++
		}
	}
	return shown, more
}

// FoundForm registers several contexts at once. Its form has the field
// namespace and, numbered from _0 on, pick, path, context, id and provider.
type FoundForm struct {
	Rows      []FoundRow
	Namespace string
	Failed    int // rows that were not registered; each says why
	Form      ui.Form
}

// FoundRow is one context of a kubeconfig that no cluster uses.
type FoundRow struct {
	Path, Context, Server string
	ID, Provider          string
	Picked                bool
	Refusal               string // why Portolan would not use it; may be empty
	Error                 string // why it was not registered
	Register              string // address of its own form, filled in
}

// Cluster is the page of one cluster.
type Cluster struct {
	ID, Label, ClusterName string
	Provider, Exposure     string
	Region, Version        string
	TestState              string // untested, running, ok or failed
	Enabled                bool
	Allows                 []Allowance
	Target                 bool   // can be deployed to
	NotTarget              string // why it cannot, in a few words
	Test                   *Test  // the latest or running one; nil before the first
	Permissions            []Grid // one a namespace
	Credential             []Fact
	Namespaces             []Fact
	ExposureFacts          []Fact
	Features               []Fact // what the optional stages of the latest test found
	History                []TestRow
	Workloads              []WorkloadRow
	WorkloadCount          int
	CanAdmin               bool
}

// Test is one connection test with its stages.
type Test struct {
	State    string // running, ok or failed
	Trial    bool   // of a credential that is to replace the present one
	At       time.Time
	Took     time.Duration
	Deadline time.Duration
	By       string // who or what began it
	Checks   []Check
}

// Check is one stage of a test.
type Check struct {
	Name    string
	State   string // pending, running, ok, warning, failed or skipped
	Message string
	Remedy  string
	RBAC    bool // the remedy is to apply the published manifest; a link is shown
	Took    time.Duration
}

// Grid is the answer of the permission check for one namespace.
type Grid struct {
	Namespace string
	Verbs     []string
	Rows      []GridRow
	Missing   int // of those that are required
	Optional  int // missing ones of the others
}

// GridRow is a resource of a Grid; Cells are as many as the grid has verbs and
// hold "yes", "no", "optional" for one that is missing and not required, or ""
// where the verb is not needed.
type GridRow struct {
	Resource string
	Cells    []string
}

// TestRow is a test of the history.
type TestRow struct {
	State string // ok or failed
	Stage string // where it failed
	Trial bool   // of a credential that was not taken
	Note  string
	By    string
	At    time.Time
	Took  time.Duration
}

// ClusterForm is the form of a new or an existing cluster. The form's fields
// are those of the registry, by the names that the POST uses.
type ClusterForm struct {
	ID           string // of the existing cluster; empty for a new one
	Label        string
	Form         ui.Form
	EncryptedOff string   // why encrypted credentials cannot be stored
	StoredSecret bool     // a sealed kubeconfig is kept when the field stays blank
	StoredCloud  string   // whose cloud credential is sealed: aws, gcp, azure; empty for none
	Manifest     string   // with which a service account is made, where one may be wanted
	Paths        []string // kubeconfigs found in the mounted folder
	Contexts     []string // of the present credential
	Inspection   *Inspection
	Changes      []Change // what someone else has saved meanwhile
}

// Credential is the page on which a cluster's credential is replaced.
type Credential struct {
	ID, Label string
	Form      ClusterForm // its credential's fields alone are shown
	Present   []Fact      // the credential that stays until another one is taken
	Problem   string      // why another one was not taken
	Remedy    string
	Test      *Test // of the one that was not taken; nil = it did not come to a test
}

// Inspection is what a kubeconfig holds, told before it is saved.
type Inspection struct {
	OK       bool
	Problem  string // why it is refused
	Remedy   string
	Contexts []InspectedContext
	Warnings []string
	Manifest string // with which a service account is made, where one is the way out of a Warning
}

// InspectedContext is one context of an inspected kubeconfig.
type InspectedContext struct {
	Name, Cluster, Server, User, Auth string
	Current                           bool
	Ends                              time.Time // of the credential; zero = it does not say
}

// Change is a field that somebody else saved while the form was open.
type Change struct {
	Field, Theirs, Yours string
	Secret               bool // the form does not show it again
}
