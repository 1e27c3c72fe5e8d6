package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is one running portolan.
type process struct {
	role string
	cmd  *exec.Cmd
	log  *journal
	done chan struct{}
	err  error // how it ended; to be read after done is closed
}

// journal keeps what a process logs, in a file for people and in memory for
// the tests.
type journal struct {
	mu   sync.Mutex
	file *os.File
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.text.Write(p)
	return j.file.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// launch starts a role of portolan (serve, web, worker) with the environment
// variables and nothing else that begins with PORTOLAN_.
func launch(name, role string, env map[string]string) (*process, error) {
	path, err := program()
	if err != nil {
		return nil, err
	}
	logPath, err := artefact("logs", strings.ReplaceAll(name, "/", "_")+"-"+role+".log")
	if err != nil {
		return nil, err
	}
	file, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	p := &process{role: role, log: &journal{file: file}, done: make(chan struct{})}
	p.cmd = exec.Command(path, role)
	for _, entry := range os.Environ() {
		if !strings.HasPrefix(entry, "PORTOLAN_") {
			p.cmd.Env = append(p.cmd.Env, entry)
		}
	}
	for key, value := range env {
		p.cmd.Env = append(p.cmd.Env, key+"="+value)
	}
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	// A test run that is killed takes its processes along.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		p.err = p.cmd.Wait()
		_ = file.Close()
		close(p.done)
	}()
	return p, nil
}

var listening = regexp.MustCompile(`(?m)(?:listening|worker is up).*?(127\.0\.0\.1:\d+)`)

// address waits until the process logs where it listens: its pages, or the
// metrics of one that has none.
func (p *process) address(limit time.Duration) (string, error) {
	deadline := time.After(limit)
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for {
		if m := listening.FindStringSubmatch(p.log.String()); m != nil {
			return m[1], nil
		}
		select {
		case <-ticker.C:
		case <-p.done:
			return "", fmt.Errorf("%s ended: %v\n%s", p.role, p.err, p.tail())
		case <-deadline:
			return "", fmt.Errorf("%s does not listen after %v\n%s", p.role, limit, p.tail())
		}
	}
}

// tail is the end of the log.
func (p *process) tail() string {
	text := p.log.String()
	if len(text) > 4000 {
		text = "…" + text[len(text)-4000:]
	}
	return text
}

// kill ends the process as a power cut would.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // an error means that it has ended
	<-p.done
}

// stop asks the process to end, and returns an error unless it does so soon,
// with success and without having noticed a data race.
func (p *process) stop() error {
	select {
	case <-p.done:
		return fmt.Errorf("%s had ended: %v\n%s", p.role, p.err, p.tail())
	default:
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // an error means that it has ended
	select {
	case <-p.done:
	case <-time.After(patience):
		p.kill()
		return fmt.Errorf("%s did not end within %v of SIGTERM\n%s", p.role, patience, p.tail())
	}
	return errors.Join(p.err, p.raced())
}

// raced returns what the race detector and the recovery of panics had to say.
func (p *process) raced() error {
	text := p.log.String()
	for _, mark := range []string{"WARNING: DATA RACE", "panic:"} {
		if i := strings.Index(text, mark); i >= 0 {
			return fmt.Errorf("%s: %s", p.role, text[i:min(len(text), i+4000)])
		}
	}
	return nil
}
