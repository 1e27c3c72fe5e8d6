package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

func TestAClientThatTricklesItsFormIsCutOff(t *testing.T) {
	t.Parallel()
	read := make(chan error, 1)
	server := newServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, err := io.ReadAll(r.Body)
		read <- err
	}))
	if server.ReadTimeout <= 0 || server.WriteTimeout <= 0 {
		t.Fatalf("a connection may last for ever: %+v", server)
	}
	server.ReadTimeout = 50 * time.Millisecond // a test need not wait as long
	server.ReadHeaderTimeout = time.Minute     // but may be slow to begin
	listening := httptest.NewUnstartedServer(nil)
	listening.Config = server
	listening.Start()
	defer listening.Close()

	conn, err := net.Dial("tcp", listening.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := fmt.Fprint(conn, "POST /login HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nemail=a"); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-read:
		if err == nil {
			t.Error("half a form was taken for a whole one")
		}
	case <-time.After(3 * time.Minute):
		t.Error("the form is still being waited for")
	}
}
