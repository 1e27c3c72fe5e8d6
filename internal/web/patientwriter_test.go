package web

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"portolan/internal/fleet"
)

// timedWriter notes what it is given and which deadline each piece had.
type timedWriter struct {
	http.ResponseWriter
	got       bytes.Buffer
	deadline  time.Time
	deadlines []time.Time
	largest   int
	dead      bool // nobody reads
}

func (w *timedWriter) SetWriteDeadline(at time.Time) error {
	w.deadline = at
	return nil
}

func (w *timedWriter) Write(b []byte) (int, error) {
	w.deadlines = append(w.deadlines, w.deadline)
	w.largest = max(w.largest, len(b))
	if w.dead {
		return 1, os.ErrDeadlineExceeded
	}
	return w.got.Write(b)
}

func TestEachPieceHasATimeOfItsOwn(t *testing.T) {
	t.Parallel()
	w := &timedWriter{}
	asked := 0
	p := &patientWriter{w: w, rc: http.NewResponseController(w), patience: time.Hour, before: func() error { asked++; return nil }}
	text := strings.Repeat("0123456789", 2000)
	begun := time.Now()
	if n, err := io.WriteString(p, text); n != len(text) || err != nil || w.got.String() != text {
		t.Fatalf("%d of %d written, %v", n, len(text), err)
	}
	if w.largest > patientPiece || asked != len(w.deadlines) || asked != 5 {
		t.Errorf("pieces of up to %d bytes; asked %d times before %d pieces", w.largest, asked, len(w.deadlines))
	}
	for i, at := range w.deadlines {
		if at.Before(begun.Add(time.Hour)) {
			t.Errorf("piece %d had until %s", i, at)
		}
	}
	if !w.deadline.IsZero() {
		t.Error("the time runs on while nothing is written")
	}

	w.dead = true
	if n, err := io.WriteString(p, text); n != 1 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("nobody reads: %d, %v", n, err)
	}
	w.dead, asked = false, 0
	ended := errors.New("ended")
	p.before = func() error { return ended }
	if n, err := io.WriteString(p, text); n != 0 || !errors.Is(err, ended) {
		t.Errorf("not allowed any more: %d, %v", n, err)
	}
}

// longRecord makes the record longer than what connections hold on the way.
func longRecord(t *testing.T, b *bundle) {
	t.Helper()
	if _, err := b.db.Pool().Exec(t.Context(), `
		INSERT INTO audit (at, actor, action, target, outcome, reason, address)
		SELECT '2019-01-01'::timestamptz + n * interval '1 second', 'ana@example.com', 'many', 'x/' || n, 'ok', repeat('x', 6000), ''
		FROM generate_series(1, 2000) n`); err != nil {
		t.Fatal(err)
	}
}

// TestAnExportOutlivesTheServersTimeouts: it lasts as long as its reader takes.
func TestAnExportOutlivesTheServersTimeouts(t *testing.T) {
	t.Parallel()
	b := setup(t)
	longRecord(t, b)
	for _, http2 := range []bool{false, true} {
		server := httptest.NewUnstartedServer(timeless(t, b.server.Handler()))
		server.EnableHTTP2 = http2
		server.StartTLS()
		t.Cleanup(server.Close)
		admin := b.user(fleet.RoleAdmin)
		admin.base, admin.http.Transport = server.URL, server.Client().Transport
		answer, err := admin.http.Get(server.URL + "/admin/audit?format=jsonl&action=many")
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		if lines := bytes.Count(body, []byte("\n")); err != nil || lines != 2000 {
			t.Errorf("HTTP/%d: %d of 2000 lines, %v", answer.ProtoMajor, lines, err)
		}
	}
}

// TestADeadReaderOfAnExportIsGivenUp: nothing is held for it any longer.
func TestADeadReaderOfAnExportIsGivenUp(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *Options) { o.Patience = time.Second })
	longRecord(t, b)
	for _, http2 := range []bool{false, true} {
		ended := make(chan struct{})
		handler := b.server.Handler()
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			defer close(ended)
			handler.ServeHTTP(w, r)
		}))
		server.EnableHTTP2 = http2
		server.StartTLS()
		t.Cleanup(server.Close)
		admin := b.user(fleet.RoleAdmin)
		admin.base, admin.http.Transport = server.URL, server.Client().Transport
		answer, err := admin.http.Get(server.URL + "/admin/audit?format=jsonl&action=many")
		if err != nil {
			t.Log(err) // given up before the first piece arrived, on a very slow machine
		} else if answer.StatusCode != http.StatusOK {
			t.Fatalf("answered %d", answer.StatusCode)
		}
		select {
		case <-ended:
		case <-time.After(patience):
			t.Errorf("HTTP/2 %t: it goes on for a reader who takes nothing", http2)
		}
		if err == nil {
			_ = answer.Body.Close()
		}
	}
}
