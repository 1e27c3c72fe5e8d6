package views

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/a-h/templ"
	"github.com/chromedp/chromedp"
)

// says answers with an event stream that holds text and then stays open, with a
// sign of life now and then, as the server's do.
func says(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		lives := time.NewTicker(5 * time.Second)
		defer lives.Stop()
		for next := text; ; next = ": \n\n" {
			_, _ = fmt.Fprint(w, next)
			_ = http.NewResponseController(w).Flush()
			select {
			case <-lives.C:
			case <-r.Context().Done():
				return
			}
		}
	}
}

// A live page says why it is no longer live, when what it follows is withheld
// from the reader, and says nothing when all is told.
func TestALivePageSaysWhyItEnded(t *testing.T) {
	t.Parallel()
	pages := filled("plain")
	b := browse(t, map[string]templ.Component{"workload": pages["workload"], "operation": pages["operation"]}, map[string]http.HandlerFunc{
		"GET /workloads/w1/stream":  says("event: done\ndata: Your session has ended.\n\n"),
		"GET /operations/o1/stream": says("event: done\ndata: succeeded\n\n"),
	})
	b.open("/workload/")
	b.sees("#live[data-live=refused]")
	if said := eval[string](b, "document.getElementById('live').innerText"); !strings.HasPrefix(said, "Your session has ended.") {
		t.Errorf("it says %q", said)
	}
	if stream := "/operations/o1/stream"; strings.Contains(render(t, pages["operation"]), stream) {
		b.open("/operation/")
		b.sees("#live[data-live=done]")
		if said := eval[string](b, "document.getElementById('live').innerText"); said != "" {
			t.Errorf("of a finished operation it says %q", said)
		}
	}
}

// A page that loses its connection says so, even when no end of it is heard,
// and is live again when there is one.
func TestALivePageComesBack(t *testing.T) {
	t.Parallel()
	var down atomic.Bool // no new connection finds a way
	network := func(w http.ResponseWriter, r *http.Request) {
		if down.Load() {
			http.Error(w, "no way through", http.StatusBadGateway)
			return
		}
		says(": \n\n")(w, r)
	}
	b := browse(t, map[string]templ.Component{"workload": filled("plain")["workload"]}, map[string]http.HandlerFunc{
		"GET /workloads/w1/stream":      network,
		"GET /workloads/w1/logs/stream": network,
	})
	b.open("/workload/")
	b.sees("#live[data-live=live]")
	b.sees(".log-state.ok")
	down.Store(true)
	eval[bool](b, "dispatchEvent(new Event('offline'))")
	b.sees("#live[data-live=reconnecting]")
	b.sees(".log-state.warning")
	down.Store(false)
	eval[bool](b, "dispatchEvent(new Event('online'))")
	b.sees("#live[data-live=live]")
	b.sees(".log-state.ok")
}

// What a page was opened without, because an operation ran, is there when the
// operation has ended and the stream offers it.
func TestAWorkloadsPageHasWhatItsStreamOffers(t *testing.T) {
	t.Parallel()
	busy := Workload{ID: "w1", Name: "web", Phase: "deploying", Wanted: 3, Delete: Confirm{Title: "Delete web", Action: "/workloads/w1/delete", Word: "web"}}
	busy.Releases = []Release{{Number: 1, State: "running", Current: true}}
	done := busy
	done.Releases = []Release{{Number: 2, State: "succeeded", Current: true}, {Number: 1, State: "succeeded"}}
	for _, name := range []string{"scale", "edit", "delete"} {
		busy.Verbs = append(busy.Verbs, Verb{Name: name, Why: "web is busy."})
		done.Verbs = append(done.Verbs, Verb{Name: name})
	}
	message := "data: " + strings.ReplaceAll(render(t, WorkloadLive(done)), "\n", "\ndata: ") + "\n\n"
	b := browse(t, map[string]templ.Component{"workload": WorkloadPage(admin(), busy)}, map[string]http.HandlerFunc{
		"GET /workloads/w1/stream": says(message),
	})
	b.open("/workload/")
	b.do("scale", chromedp.Click(chromedp.CSS("#verb-scale > button[popovertarget]")))
	b.sees("#scale:popover-open")
	if n := eval[string](b, `document.getElementById("scale-replicas").value`); n != "3" {
		t.Errorf("it begins with %s replicas, want 3", n)
	}
	b.sees("tr[data-release='2']")
	if says := eval[string](b, `document.getElementById("tab-releases").textContent`); says != "Releases 2" {
		t.Errorf("of two releases the tab says %q", says)
	}
	b.do("delete", chromedp.Click(chromedp.CSS("#verb-delete > a")))
	b.sees("dialog#delete[open]")
}

// hides makes the page believe that it is looked at, or not.
func (b *browser) hides(hidden bool) {
	b.t.Helper()
	eval[bool](b, fmt.Sprintf(`(() => {
		Object.defineProperty(document, "hidden", { configurable: true, value: %t });
		document.dispatchEvent(new Event("visibilitychange"));
		return true;
	})()`, hidden))
}

// A log takes a connection only while somebody looks at it, of which a browser
// has few, and goes on where it was left.
func TestALogThatNobodyLooksAtIsNotRead(t *testing.T) {
	t.Parallel()
	begun, ended := make(chan string, 10), make(chan bool, 10)
	var n atomic.Int64
	b := browse(t, map[string]templ.Component{"workload": filled("plain")["workload"]}, map[string]http.HandlerFunc{
		"GET /workloads/w1/stream": says(": \n\n"),
		"GET /workloads/w1/logs/stream": func(w http.ResponseWriter, r *http.Request) {
			begun <- r.Header.Get("Last-Event-ID")
			i := n.Add(1)
			says(fmt.Sprintf("id: after-%d\ndata: <div data-line>line %d</div>\n\n", i, i))(w, r)
			ended <- true
		},
	})
	b.open("/workload/#status")
	b.sees("#live[data-live=live]")
	eval[bool](b, `new Promise((done) => requestAnimationFrame(() => setTimeout(() => done(true), 0)))`)
	if n.Load() != 0 {
		t.Fatal("the log is read although its tab was never open")
	}
	b.do("the tab Logs", chromedp.Click(chromedp.CSS("#tab-logs")))
	b.sees(".log-state.ok")
	b.sees("[data-line]")
	b.hides(true)
	select {
	case <-ended:
	case <-time.After(patience):
		t.Fatal("the log is still read")
	}
	b.hides(false)
	b.sees(".log-state.ok")
	b.sees(".log-chunk:not(:empty) ~ .log-chunk [data-line], [data-line] ~ [data-line]")
	var after []string
	for len(begun) > 0 {
		after = append(after, <-begun)
	}
	if !slices.Equal(after, []string{"", "after-1"}) {
		t.Errorf("it was read after %q", after)
	}
}

// A log pane offers the pods that there are now, keeps the one that was chosen,
// and takes back what it said when there are lines again.
func TestALogPaneKeepsUp(t *testing.T) {
	t.Parallel()
	pane := LogPane{WorkloadID: "w1", Name: "web", Stream: "/workloads/w1/logs/stream", Pods: []string{"web-a", "web-b"}}
	choices := make(chan string, 10)
	var cluster atomic.Value
	cluster.Store("away")
	b := browse(t, map[string]templ.Component{"logs": LogsPage(admin(), pane)}, map[string]http.HandlerFunc{
		"GET /workloads/w1/logs/stream": func(w http.ResponseWriter, r *http.Request) {
			choices <- r.URL.Query().Get("pod")
			says("id: 1\nevent: pods\ndata: web-c web-d web-e\n\nid: 1\nevent: notice\ndata: No pod has started yet.\n\n"+
				"id: 2\ndata: <div data-line>a line</div>\n\nid: 2\nevent: cluster\ndata: "+cluster.Load().(string)+"\n\n")(w, r)
		},
	})
	options := func() string {
		return eval[string](b, `(() => {
			const pod = document.querySelector("select[name=pod]");
			return [...pod.options].map((o) => o.textContent).join(", ") + ": " + pod.value;
		})()`)
	}
	b.open("/logs/")
	b.sees("[data-line]")
	if got := options(); got != "all pods (3), web-c, web-d, web-e: " {
		t.Errorf("it offers %q", got)
	}
	b.sees("[data-log-notice][hidden]")
	b.sees(".log-state.warning") // a green word would say that lines can come
	cluster.Store("away\n\nid: 2\nevent: cluster\ndata: answers\n\nid: 3\ndata: <div data-line id=last>the last</div>")

	eval[bool](b, `(() => {
		const pod = document.querySelector("select[name=pod]");
		pod.add(new Option("web-a", "web-a", false, true)); // as one that has gone meanwhile
		pod.dispatchEvent(new Event("change", { bubbles: true }));
		return true;
	})()`)
	b.sees("[data-line]")
	b.sees("#last")
	b.sees(".log-state.ok")
	if got := options(); got != "all pods (3), web-c, web-d, web-e, web-a: web-a" {
		t.Errorf("with one chosen it offers %q", got)
	}
	if first, then := <-choices, <-choices; first != "" || then != "web-a" {
		t.Errorf("it read %q, then %q", first, then)
	}
}

// A log pane says how far back it really reads, and keeps what was said of the
// log when it has ended.
func TestALogPaneSaysWhatItShows(t *testing.T) {
	t.Parallel()
	pane := LogPane{WorkloadID: "w1", Name: "web", Stream: "/workloads/w1/logs/stream", Pods: []string{"web-a"}, Tail: "1000", Previous: true}
	b := browse(t, map[string]templ.Component{"logs": LogsPage(admin(), pane)}, map[string]http.HandlerFunc{
		"GET /workloads/w1/logs/stream": says("id: 1\nevent: notice\ndata: It has not been restarted.\n\nid: 1\nevent: done\ndata: The log has ended.\n\n"),
	})
	b.open("/logs/")
	if got := eval[string](b, `document.querySelector("select[name=tail]").selectedOptions[0].textContent`); got != "last 1000 lines" {
		t.Errorf("of the last 1000 lines it says %q", got)
	}
	b.sees(".log-state.stopped")
	if got := eval[string](b, `document.querySelector("[data-log-notice]").innerText`); got != "It has not been restarted. The log has ended." {
		t.Errorf("at its end it says %q", got)
	}
}
