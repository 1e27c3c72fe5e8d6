//go:build unix

package localpg

import (
	"bytes"
	"io"
	"os"
	"strings"
)

const (
	maxLogSize  = 8 << 20 // bytes, after which the next start sets the log aside
	maxTailSize = 16 << 10
	tailLines   = 12
)

// serverLog is the file that PostgreSQL writes to; start is where this run's part begins.
type serverLog struct {
	file  *os.File
	start int64
}

// openLog opens the log for appending. A large one is kept as one older generation.
func openLog(path string) (*serverLog, error) {
	if info, err := os.Stat(path); err == nil && info.Size() > maxLogSize {
		if err := os.Rename(path, path+".1"); err != nil {
			return nil, err
		}
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil {
		file.Close()
		return nil, err
	}
	return &serverLog{file: file, start: info.Size()}, nil
}

// Close closes this process's hold on the log; the server keeps its own.
func (l *serverLog) Close() error { return l.file.Close() }

// tail returns the last lines that this run wrote.
func (l *serverLog) tail() string {
	info, err := l.file.Stat()
	if err != nil {
		return err.Error()
	}
	from := max(l.start, info.Size()-maxTailSize)
	text, err := io.ReadAll(io.NewSectionReader(l.file, from, info.Size()-from))
	if err != nil {
		return err.Error()
	}
	return lastLines(text)
}

func lastLines(text []byte) string {
	lines := strings.Split(string(bytes.TrimSpace(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-tailLines):], "\n")
}
