package web

import (
	"errors"
	"net/http"
	"time"
)

// patientPiece is how much a reader has to take within its patience: what HTTP/2
// hands on at a time, and little enough for a line that is hardly alive.
const patientPiece = 4 << 10

// patientWriter writes a long answer piece by piece, each with a time of its
// own: a slow reader gets all of it, one that takes nothing any more is given up.
// Between pieces no time runs, since HTTP/2 resets a stream when its deadline
// passes, even while nothing is being written.
type patientWriter struct {
	w        http.ResponseWriter
	rc       *http.ResponseController
	patience time.Duration
	before   func() error // asked before each piece whether to go on
}

func (p *patientWriter) Write(b []byte) (n int, err error) {
	for n < len(b) {
		if err := p.before(); err != nil {
			return n, err
		}
		if err := p.deadline(time.Now().Add(p.patience)); err != nil {
			return n, err
		}
		wrote, err := p.w.Write(b[n:min(len(b), n+patientPiece)])
		n += wrote
		if err != nil {
			return n, err
		}
		if err := p.deadline(time.Time{}); err != nil {
			return n, err
		}
	}
	return n, nil
}

// end bounds how long the server waits to write the last of the answer.
func (p *patientWriter) end() { _ = p.deadline(time.Now().Add(p.patience)) }

func (p *patientWriter) deadline(at time.Time) error {
	return supported(p.rc.SetWriteDeadline(at))
}

// supported is err, except where a connection simply has no deadlines.
func supported(err error) error {
	if errors.Is(err, http.ErrNotSupported) {
		return nil
	}
	return err
}
