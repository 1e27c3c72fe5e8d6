package kube_test

import (
	"fmt"
	"net"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// fullBacklog returns the URL of a listener that nobody accepts from and whose
// queue is full: Linux drops further SYNs, as a firewall would.
func fullBacklog(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	bound, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr := fmt.Sprintf("127.0.0.1:%d", bound.(*syscall.SockaddrInet4).Port)
	// Until no connection is answered any more: one alone may be late.
	unanswered := 0
	for range 32 {
		conn, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			unanswered = 0
			t.Cleanup(func() { conn.Close() })
		} else if unanswered++; unanswered == 3 {
			return "https://" + addr
		}
	}
	t.Fatal("the queue never filled")
	return ""
}

func quoteJSON(s string) string { return strconv.Quote(s) }

func itoa(n int) string { return strconv.Itoa(n) }
