package web

import (
	"context"
	"encoding/json"
	"net/http"
	"reflect"
	"strconv"
	"time"

	"github.com/go-chi/chi/v5"

	"portolan/internal/fleet"
	"portolan/views"
)

// streamOperation sends the record of an operation: every event has a message
// of its own with the event's number as its id, so that a reader who comes back
// with Last-Event-ID misses none and gets none twice. The newest one carries the
// state of the page; those before it, named "event", carry themselves as JSON.
func (s *Server) streamOperation(w http.ResponseWriter, r *http.Request) error {
	id := chi.URLParam(r, "id")
	seen, _ := strconv.ParseInt(r.Header.Get("Last-Event-ID"), 10, 64)
	shown := false
	return s.follow(w, r, func(ctx context.Context, out *eventStream) error {
		v, op, err := s.operationView(ctx, id, visitOf(ctx).user.Role)
		if err != nil {
			if shown {
				return gone(err)
			}
			return err
		}
		shown = true
		for seen < op.LastSeq {
			events, err := s.Reads.EventsSince(ctx, id, seen, 0)
			if err != nil {
				return err
			}
			if len(events) == 0 {
				if op.EventsRemoved { // there is nothing more to wait for
					seen = op.LastSeq
					if err := out.fragment(ctx, strconv.FormatInt(seen, 10), views.OperationLive(v)); err != nil {
						return err
					}
				}
				break
			}
			for _, e := range events {
				if e.Seq >= op.LastSeq { // newer than the state that was read: they ring again
					seen = op.LastSeq
					if err := out.fragment(ctx, strconv.FormatInt(seen, 10), views.OperationLive(v)); err != nil {
						return err
					}
					break
				}
				data, err := json.Marshal(eventMessage{e.Seq, e.At, string(e.Type), string(e.Step), e.State, e.Reason, e.Object, e.Message})
				if err != nil {
					return err
				}
				out.message(strconv.FormatInt(e.Seq, 10), "event", data)
				seen = e.Seq
			}
		}
		if op.State.Finished() && seen >= op.LastSeq {
			return errEnded(op.State)
		}
		return nil
	}, "operation:"+id)
}

// eventMessage is one event of an operation as scripts read it.
type eventMessage struct {
	Seq     int64     `json:"seq"`
	At      time.Time `json:"at"`
	Type    string    `json:"type"`
	Step    string    `json:"step,omitempty"`
	State   string    `json:"state,omitempty"`
	Reason  string    `json:"reason,omitempty"`
	Object  string    `json:"object,omitempty"`
	Message string    `json:"message,omitempty"`
}

// freshness is how old the time of the last proof of life on an open page may
// become before it is sent alone, without any other change.
const freshness = 10 * time.Second

// streamWorkload sends the state of a workload whenever it has changed. Each
// message is complete in itself; its id is the time of the state.
func (s *Server) streamWorkload(w http.ResponseWriter, r *http.Request) error {
	id := chi.URLParam(r, "id")
	state, err := s.Reads.Workload(r.Context(), id)
	if err != nil {
		return err
	}
	var sent *views.Workload
	var known history
	ids := newTimeID(r)
	return s.follow(w, r, func(ctx context.Context, out *eventStream) error {
		v, err := s.workloadView(ctx, id, visitOf(ctx).user.Role, &known)
		if err != nil {
			return gone(err)
		}
		if sent != nil && sameWorkload(*sent, v) {
			return nil
		}
		sent = &v
		return out.fragment(ctx, ids.next(), views.WorkloadLive(v))
	}, "workload:"+id, "cluster:"+state.Workload.ClusterID)
}

// sameWorkload reports whether a reader would see no difference worth sending.
func sameWorkload(sent, now views.Workload) bool {
	if now.SeenAt.Sub(sent.SeenAt) < freshness {
		now.SeenAt = sent.SeenAt
	}
	// How long a running operation has taken is counted in the page.
	settle := func(v *views.Workload) {
		if v.Active != nil {
			active := *v.Active
			active.Took = 0
			v.Active = &active
		}
		rows := make([]views.OperationRow, len(v.Operations))
		for i, row := range v.Operations {
			if row.State == string(fleet.OperationQueued) || row.State == string(fleet.OperationRunning) {
				row.Took = 0
			}
			rows[i] = row
		}
		v.Operations = rows
	}
	settle(&sent)
	settle(&now)
	return reflect.DeepEqual(sent, now)
}

// streamCluster sends the state of a cluster and the stages of its running test.
func (s *Server) streamCluster(w http.ResponseWriter, r *http.Request) error {
	id := chi.URLParam(r, "id")
	if _, err := s.Reads.ClusterStatus(r.Context(), id); err != nil {
		return err
	}
	var sent *views.Cluster
	ids := newTimeID(r)
	return s.follow(w, r, func(ctx context.Context, out *eventStream) error {
		v, err := s.clusterView(ctx, id, visitOf(ctx).user.Role)
		if err != nil {
			return gone(err)
		}
		if sent != nil && reflect.DeepEqual(*sent, v) {
			return nil
		}
		sent = &v
		return out.fragment(ctx, ids.next(), views.ClusterLive(v))
	}, "cluster:"+id)
}

// timeID makes ids from the clock, in microseconds, that only ever grow, also
// past the one that the reader came back with.
type timeID struct{ last int64 }

func newTimeID(r *http.Request) *timeID {
	last, _ := strconv.ParseInt(r.Header.Get("Last-Event-ID"), 10, 64)
	if last > time.Now().Add(time.Minute).UnixMicro() {
		last = 0 // not one of ours
	}
	return &timeID{last}
}

func (t *timeID) next() string {
	t.last = max(t.last+1, time.Now().UnixMicro())
	return strconv.FormatInt(t.last, 10)
}
