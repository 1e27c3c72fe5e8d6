package live

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"k8s.io/client-go/rest"
)

// watched answers a watch with what write sends.
func watched(t *testing.T, write func(io.Writer)) *API {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { write(w) }))
	t.Cleanup(server.Close)
	api, err := NewAPI(&rest.Config{Host: server.URL, QPS: 50, Burst: 100}, server.Client())
	if err != nil {
		t.Fatal(err)
	}
	return api
}

func TestAnEventWithoutEndBreaksTheWatch(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("x", 1<<20)
	seen := 0
	see := func(Change, *Pod) error { seen++; return nil }
	watch := func(api *API) error {
		return Watch(context.Background(), api, Pods, "a", Query{}, "1", see)
	}

	many := watched(t, func(w io.Writer) {
		for range 2 * maxObject >> 20 {
			_, _ = io.WriteString(w, `{"type":"ADDED","object":{"metadata":{"name":"`+text+`"}}}`)
		}
	})
	if err := watch(many); err != nil || seen != 2*maxObject>>20 {
		t.Errorf("many events: %d seen, %v", seen, err)
	}

	endless := watched(t, func(w io.Writer) {
		_, err := io.WriteString(w, `{"type":"ADDED","object":{"metadata":{"name":"`)
		for err == nil {
			_, err = io.WriteString(w, text)
		}
	})
	if err := watch(endless); !errors.Is(err, errLarge) {
		t.Errorf("one event without end: %v", err)
	}
}

// What is kept of a watch would grow with it, was it not begun anew now and then
// by a list, which is bounded.
func TestAWatchWithoutEndIsBegunAnew(t *testing.T) {
	t.Parallel()
	reason := strings.Repeat("x", maxText)
	endless := watched(t, func(w io.Writer) {
		for i := 0; ; i++ {
			if _, err := fmt.Fprintf(w, `{"type":"ADDED","object":{"metadata":{"name":"p","uid":"%d"},"status":{"reason":"%s"}}}`, i, reason); err != nil {
				return
			}
		}
	})
	seen := 0
	see := func(Change, *Pod) error { seen++; return nil }
	if err := Watch(t.Context(), endless, Pods, "a", Query{}, "1", see); err != nil || seen < maxKept/maxText/2 || seen > maxKept/maxText {
		t.Errorf("%d pods seen, %v", seen, err)
	}
}
