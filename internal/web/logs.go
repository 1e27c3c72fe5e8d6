package web

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/a-h/templ"
	"github.com/go-chi/chi/v5"

	"portolan/internal/fleet"
	"portolan/views"
)

// Logs opens the logs of workloads.
type Logs interface {
	// OpenLog begins to read a log. An Error says why there is none to read.
	OpenLog(ctx context.Context, q fleet.LogQuery) (LogStream, error)
}

// LogStream is a log that is being read.
type LogStream interface {
	// Next waits for lines and returns those that are there. io.EOF is the end
	// of a log that does not go on.
	Next(ctx context.Context) (fleet.LogBatch, error)
	// Close lets go of the log.
	Close()
}

const (
	defaultTail = 500
	maxTail     = 50_000
)

// logChoice is what the reader of a log chose.
type logChoice struct {
	pod, container, since string
	tail                  int // negative = the default
	previous              bool
}

// readLogChoice reads the parameters, and says which of them cannot be used.
func readLogChoice(r *http.Request) (logChoice, time.Time, error) {
	q := r.URL.Query()
	problems := fleet.Problems{}
	c := logChoice{pod: q.Get("pod"), container: q.Get("container"), since: q.Get("since"), tail: defaultTail}
	if text := q.Get("tail"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 || n > maxTail {
			problems.Add("tail", "must be a number from 0 to %d", maxTail)
		}
		c.tail = n
	}
	switch q.Get("previous") {
	case "", "false", "0", "no", "off":
	default:
		c.previous = true
	}
	for name, value := range map[string]string{"pod": c.pod, "container": c.container} {
		if !objectName(value) {
			problems.Add(name, "is not the name of a %s", name)
		}
	}
	var since time.Time
	if c.since != "" {
		at, timeErr := time.Parse(time.RFC3339Nano, c.since)
		ago, agoErr := time.ParseDuration(c.since)
		switch {
		case timeErr == nil:
			since = at
		case agoErr == nil && ago > 0:
			since = time.Now().Add(-ago)
		default:
			problems.Add("since", "must be a time such as 2026-03-01T12:00:00Z, or how long ago such as 10m")
		}
	}
	return c, since, problems.Err()
}

// objectName reports whether s could name an object in Kubernetes, or is "".
func objectName(s string) bool {
	return len(s) <= 253 && !slices.ContainsFunc([]byte(s), func(c byte) bool {
		return (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '.'
	})
}

// address is the stream of the choice.
func (c logChoice) address(workload string) string {
	tail, previous := "", ""
	if c.tail >= 0 && c.tail != defaultTail {
		tail = strconv.Itoa(c.tail)
	}
	if c.previous {
		previous = "true"
	}
	return address("/workloads/"+workload+"/logs/stream",
		"pod", c.pod, "container", c.container, "tail", tail, "previous", previous, "since", c.since)
}

// showLogs is the log on a page of its own.
func (s *Server) showLogs(w http.ResponseWriter, r *http.Request) error {
	choice, _, err := readLogChoice(r)
	if err != nil {
		return err
	}
	state, err := s.Reads.Workload(r.Context(), chi.URLParam(r, "id"))
	if err != nil {
		return err
	}
	v, status := logPane(&state.Workload, state.Observation, choice), http.StatusOK
	switch err := s.reachableForLogs(r.Context(), state); {
	case fleet.CodeOf(err) == fleet.CodeUnavailable: // the pane says so, and goes on trying
		v.Off, status = why(err), http.StatusServiceUnavailable
	case err != nil:
		return err
	}
	return s.render(w, r, status, "Logs of "+v.Name, func(p views.Page) templ.Component { return views.LogsPage(p, v) })
}

// reachableForLogs returns an Error when the cluster that has the logs does not
// answer.
func (s *Server) reachableForLogs(ctx context.Context, state fleet.WorkloadState) error {
	situation, err := s.Operator.Situation(ctx, state)
	if err != nil || situation.Reachable {
		return err
	}
	e := fleet.Unavailable("The cluster %s cannot be reached now: logs requires Kubernetes.", situation.Target.Cluster.Label)
	e.Remedy = "Portolan goes on trying by itself; come back when the workload is no longer unknown."
	return e
}

// logPane offers the pods and containers that were last seen.
func logPane(w *fleet.Workload, o *fleet.Observation, c logChoice) views.LogPane {
	v := views.LogPane{
		WorkloadID: w.ID, Name: w.Name, Stream: c.address(w.ID), Pod: c.pod, Container: c.container, Previous: c.previous,
	}
	if c.tail >= 0 && c.tail != defaultTail {
		v.Tail = strconv.Itoa(c.tail)
	}
	if o != nil {
		for _, p := range o.Pods {
			v.Pods = append(v.Pods, p.Name)
			for _, container := range p.Containers {
				if !slices.Contains(v.Containers, container.Name) {
					v.Containers = append(v.Containers, container.Name)
				}
			}
		}
	}
	if c.pod != "" && !slices.Contains(v.Pods, c.pod) {
		v.Pods = append(v.Pods, c.pod)
	}
	if w.Stopped && len(v.Pods) == 0 {
		v.Off, v.Stream = w.Name+" is stopped: no pod, no log. It goes on when it is started.", ""
	}
	return v
}
