package views

import "time"

// Operations is the list of operations, newest first.
type Operations struct {
	State       string // the chosen filter
	Rows        []OperationRow
	Next, First string
}

// Operation is the page of one operation.
type Operation struct {
	ID      string
	Title   string // such as "Update support-eu"
	Verb    string // deploy, update, stop …
	State   string // queued, running, succeeded, failed or cancelled
	By      string
	At      time.Time // begun
	EndedAt time.Time // zero while it goes on
	Took    time.Duration
	Target  string // k8s:<id>
	Facts   []Fact

	WorkloadID, WorkloadName string // the id is empty when the workload is gone
	Cause                    *Cause // of a failure
	Outcome                  string // what a success or a cancel leaves behind, in a sentence
	Steps                    []Step
	Events                   []OperationEvent // oldest first
	EventsRemoved            bool             // they were kept long enough
	CanCancel                bool
	Again                    string // address of a form to try again; may be empty
}

// Cause is why an operation failed.
type Cause struct {
	Title, Detail, Remedy string
	Object                string
	Events                []string
	Log                   []string // last lines
}

// Step is one step of an operation.
type Step struct {
	Name    string
	State   string // pending, running, succeeded, failed or skipped
	Message string
	At      time.Time // begun; zero before
	Took    time.Duration
}

// OperationEvent is one entry of an operation's record.
type OperationEvent struct {
	Seq  int64
	At   time.Time
	Type string // Normal or Warning
	Says string
}
