package fleet

import "time"

// LogQuery says which log to read, and from where on.
type LogQuery struct {
	Workload  Workload
	Pod       string // "" = all of them, merged
	Container string // "" = the main one
	Tail      int    // how many earlier lines of each container come first
	Previous  bool   // of the container before its last restart
	Since     time.Time
	After     string // the Position of the last line that the reader has; "" = none
}

// LogBatch is what a log holds since the batch before.
type LogBatch struct {
	Missed int    // lines before these that this reader was too slow for
	Gap    string // why lines before these may be missing, however many
	Lines  []LogLine
	Note   string // something to say above the lines, such as which pod ended
}

// LogLine is one line of a log.
type LogLine struct {
	At       time.Time
	Pod      string // full name
	Text     string // without its line break
	Position string // from which reading goes on after this line; set in the last line of a batch
}
