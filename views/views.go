// Package views holds the pages of Portolan and the structs that fill them.
//
// A page is a templ component XPage(p Page, v X): p is the frame that all pages
// share, v is what this one shows. The structs are ready for display: they hold
// the marker words (a phase, a test state), times and durations as they are, and
// the components choose the wording, colours and relative times.
//
//	SetupPage(p, Setup)              LoginPage(p, Login)
//	FailurePage(p, Failure)          FailureFragment(Failure)
//	OverviewPage(p, Overview)        ConfirmPage(p, Confirm)
//	ClustersPage(p, Clusters)        ClusterPage(p, Cluster)
//	ClusterFormPage(p, ClusterForm)  InspectionFragment(*Inspection)
//	CredentialPage(p, Credential)
//	DeployPage(p, Deploy)            PreviewFragment(*Preview)
//	WorkloadsPage(p, Workloads)      WorkloadPage(p, Workload)
//	WorkloadEditPage(p, WorkloadEdit)
//	WorkloadDeletePage(p, WorkloadDelete)
//	LogsPage(p, LogPane)
//	OperationsPage(p, Operations)    OperationPage(p, Operation)
//
// POST /deploy/preview and POST /admin/clusters/inspect are sent by a second
// button of the same form. They answer htmx (HX-Request) with the fragment, and
// any other client with the whole page, its Preview or Inspection filled in.
// Every other form is an ordinary one. htmx swaps answers of any status.
//
// # Live fragments
//
// A page that follows something holds one empty element that opens its stream.
// Every unnamed message of a stream is the whole output of one Live component,
// rendered from the same struct as the page, so that a message is always
// complete in itself, however many were lost before it:
//
//	/admin/clusters/{id}/stream   ClusterLive(v Cluster)
//	/operations/{id}/stream       OperationLive(v Operation)
//	/workloads/{id}/stream        WorkloadLive(v Workload)
//
// Such a message is a list of hx-partial elements, each of which is morphed into
// the element of the same id; focus, scroll, open details and forms stay, as
// nothing that a person types into is part of a Live component. Lines of the
// HTML go into one "data:" line each. A message named "done" (with any data) ends
// the stream for good; an end without it is followed by a new connection with
// Last-Event-ID. Messages of other names are for other readers: the pages pass
// over them.
//
// # Log streams
//
// /workloads/{id}/logs/stream is read by our own script, not by htmx. An unnamed
// message is a batch of lines made by AppendLogLine, and of AppendLogGap where
// lines are missing; newlines between them are allowed and not needed. A message
// named "done" ends the pane with its data as the reason, one named "notice"
// shows its data above the lines until more lines have come, one named "pods" has
// the names of the pods that there are now, with spaces between.
// A refusal (401, 403, 404, 409, 503) is shown
// with the text of the element marked data-error in its body, or of the whole
// body when that is plain text.
package views

import (
	"time"

	"portolan/views/ui"
)

// Assets are the addresses of the static files that the frame links to.
type Assets struct {
	CSS, JS, Sans, Mono, Icon string
}

// Person is who is signed in. The zero Person is nobody: the frame then shows
// neither navigation nor search.
type Person struct {
	Email      string
	Role       string // admin, operator or viewer
	CanOperate bool   // may change workloads
	CanAdmin   bool   // may change the registry
}

// Nav holds the counts beside the entries of the navigation; an empty one is
// not shown.
type Nav struct {
	Workloads, Operations, Clusters string
}

// Page is the frame around every page.
type Page struct {
	Title  string // of the document, without the product's name
	Path   string // of the request; chooses the current entry of the navigation
	Query  string // what the search box of the top bar holds
	Assets Assets
	Person Person
	Nav    Nav
	Notice string // something that has just been done, said once; may be empty
	Bare   bool   // only what the page is about, for htmx to put into another
}

// Count is a number with a state, which leads to the list of what it counts.
type Count struct {
	Status ui.Status
	N      int
	Href   string
}

// Fact is a name and its value in a list of details. Mono sets the value in the
// monospaced face; an empty value is shown as a dash.
type Fact struct {
	Name, Value string
	Href        string
	Mono        bool
	Status      ui.Status // shown before the value when it has a word
}

// Option is one choice of a select or a list of filters.
type Option struct {
	Value, Label string
}

// OperationRow is one operation in a list.
type OperationRow struct {
	ID       string
	Title    string // such as "Deploy support-eu"
	State    string // queued, running, succeeded, failed or cancelled
	Note     string // the present step, or the cause of a failure
	Workload string // its name; empty when there is none
	Target   string // k8s:<id>
	By       string
	At       time.Time // begun
	Took     time.Duration
}
