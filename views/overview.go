package views

import (
	"time"

	"portolan/views/ui"
)

// Overview is the first page: what needs a person, counts, the last operations.
type Overview struct {
	Attention  []Attention // most urgent first
	Workloads  []Count     // by phase; use ui.Phase for the status
	Clusters   []Count     // by test state
	Operations []OperationRow
	Registered int // clusters; with none, the page explains the first step
	Targets    int // clusters that can be deployed to
}

// Attention is one thing that a person should look at.
type Attention struct {
	Status ui.Status
	Title  string
	Detail string
	Href   string
	At     time.Time
}
