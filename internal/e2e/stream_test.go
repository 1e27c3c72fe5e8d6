package e2e

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// message is one event of a stream.
type message struct {
	id, name, data string
	at             time.Time
}

// fragment is the HTML of a message.
func (m message) fragment() *page { return parsePage("stream", http.StatusOK, nil, m.data) }

// lines are the log lines of a message, and gaps the marks of lost ones.
func (m message) lines() (lines []string, gaps int) {
	p := m.fragment()
	for _, n := range p.with("data-line") {
		lines = append(lines, rawText(n))
	}
	return lines, len(p.with("data-gap"))
}

// stream is an open event stream.
type stream struct {
	messages chan message
	close    context.CancelFunc
	err      error // why it ended; to be read after messages is closed
}

// open follows a stream from after lastID; "" = from its beginning. It fails
// the test when the answer is no stream.
func (c *client) open(t testing.TB, path, lastID string) *stream {
	t.Helper()
	s, status, err := c.tryOpen(path, lastID)
	if err != nil {
		t.Fatalf("GET %s: %v", path, err)
	}
	if s == nil {
		t.Fatalf("GET %s: %d, no stream: %s", path, status, clipped(c.get(t, path).text()))
	}
	t.Cleanup(s.close)
	return s
}

// tryOpen returns a nil stream and the status when it is refused.
func (c *client) tryOpen(path, lastID string) (*stream, int, error) {
	ctx, cancel := context.WithCancel(context.Background())
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+path, nil)
	if err != nil {
		cancel()
		return nil, 0, err
	}
	r.Header.Set("Accept", "text/event-stream")
	if lastID != "" {
		r.Header.Set("Last-Event-ID", lastID)
	}
	answer, err := c.http.Do(r)
	if err != nil {
		cancel()
		return nil, 0, err
	}
	if answer.StatusCode != http.StatusOK || !strings.HasPrefix(answer.Header.Get("Content-Type"), "text/event-stream") {
		cancel()
		_ = answer.Body.Close()
		return nil, answer.StatusCode, nil
	}
	s := &stream{messages: make(chan message, 1024), close: cancel}
	go func() {
		defer func() { _ = answer.Body.Close() }()
		defer close(s.messages)
		s.err = readEvents(bufio.NewReaderSize(answer.Body, 1<<20), func(m message) bool {
			select {
			case s.messages <- m:
				return true
			case <-ctx.Done():
				return false
			}
		})
	}()
	return s, answer.StatusCode, nil
}

// readEvents reads the event-stream format of the HTML standard: an event
// without data, such as the sign that a silent stream lives, is told to nobody.
func readEvents(r *bufio.Reader, take func(message) bool) error {
	var m message
	var data []string
	lastID := ""
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return err
		}
		line = strings.TrimRight(line, "\r\n")
		if line == "" {
			if len(data) > 0 {
				m.id, m.data, m.at = lastID, strings.Join(data, "\n"), time.Now()
				if !take(m) {
					return context.Canceled
				}
			}
			m, data = message{}, nil
			continue
		}
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "id":
			lastID = value
		case "event":
			m.name = value
		case "data":
			data = append(data, value)
		}
	}
}

// next returns the next message, or fails the test after limit or at the end.
func (s *stream) next(t testing.TB, limit time.Duration) message {
	t.Helper()
	select {
	case m, ok := <-s.messages:
		if !ok {
			t.Fatalf("the stream ended: %v", s.err)
		}
		return m
	case <-time.After(limit):
		t.Fatalf("no message within %v", limit)
	}
	return message{}
}

// until reads messages until look is satisfied, and returns all it read.
func (s *stream) until(t testing.TB, limit time.Duration, what string, look func(message) bool) []message {
	t.Helper()
	deadline := time.After(limit)
	var read []message
	for {
		select {
		case m, ok := <-s.messages:
			if !ok {
				t.Fatalf("%s: the stream ended after %d messages, the last two: %s; %s: %v",
					what, len(read), lastOf(read[:max(0, len(read)-1)]), lastOf(read), s.err)
			}
			read = append(read, m)
			if look(m) {
				return read
			}
		case <-deadline:
			t.Fatalf("%s: not within %v; %d messages read, last: %s", what, limit, len(read), lastOf(read))
		}
	}
}

func lastOf(read []message) string {
	if len(read) == 0 {
		return "none"
	}
	m := read[len(read)-1]
	return fmt.Sprintf("id %s event %q %s", m.id, m.name, clipped(m.data))
}

// ended waits for the end of the stream.
func (s *stream) ended(t testing.TB, limit time.Duration) {
	t.Helper()
	deadline := time.After(limit)
	for {
		select {
		case _, ok := <-s.messages:
			if !ok {
				return
			}
		case <-deadline:
			t.Fatalf("the stream has not ended within %v", limit)
		}
	}
}
