package views

import (
	"context"
	_ "embed"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/a-h/templ"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"portolan/static"
	"portolan/views/ui"
)

// patience bounds one step in the browser, on a machine that has much else to
// do.
const patience = 90 * time.Second

// browser is a tab of a real Chromium before a site made of pages alone: what
// is shown here is known, and nothing else happens.
type browser struct {
	t    *testing.T
	ctx  context.Context
	base string
}

// browse opens a tab before a site. Its pages are under their names, its own
// handlers elsewhere.
func browse(t *testing.T, pages map[string]templ.Component, handlers map[string]http.HandlerFunc) *browser {
	t.Helper()
	assets, err := static.New()
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET "+static.Prefix, assets.Handler())
	for name, page := range pages {
		mux.HandleFunc("GET /"+strings.ReplaceAll(name, " ", "-")+"/{$}", func(w http.ResponseWriter, r *http.Request) {
			show(w, r, page)
		})
	}
	for pattern, h := range handlers {
		mux.HandleFunc(pattern, h)
	}
	site := httptest.NewServer(mux)
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-component-update", true),
		chromedp.WSURLReadTimeout(patience),
	)
	allocated, endBrowser := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, closeTab := chromedp.NewContext(allocated)
	t.Cleanup(func() {
		if err := chromedp.Cancel(ctx); err != nil { // waits until it has ended
			t.Logf("closing Chromium: %v", err)
		}
		closeTab()
		endBrowser()
		site.CloseClientConnections() // streams have no end of their own
		site.Close()
	})
	if err := chromedp.Do(ctx); err != nil { // the tab lives as long as the context that it is opened with
		t.Fatal(err)
	}
	return &browser{t: t, ctx: ctx, base: site.URL}
}

// show answers with a page.
func show(w http.ResponseWriter, r *http.Request, page templ.Component) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_ = page.Render(r.Context(), w)
}

// siteFiles are the addresses of the site's own style, script and typefaces.
var siteFiles = sync.OnceValue(func() Assets {
	a, err := static.New()
	if err != nil {
		panic(err)
	}
	return Assets{CSS: a.CSS(), JS: a.JS(), Sans: a.Sans(), Mono: a.Mono(), Icon: a.Icon()}
})

func (b *browser) do(what string, actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		b.t.Fatalf("%s: %v", what, err)
	}
}

func (b *browser) open(path string) {
	b.t.Helper()
	b.do("open "+path, chromedp.Navigate(b.base+path))
}

// sees waits for an element that the page may yet make.
func (b *browser) sees(css string) {
	b.t.Helper()
	b.do("wait for "+css, chromedp.WaitReady(chromedp.CSS(css)))
}

// wide sets the width of the window in pixels.
func (b *browser) wide(width int64) {
	b.t.Helper()
	b.do("resize", chromedp.EmulateViewport(width, 900))
	eval[bool](b, fmt.Sprintf(`new Promise((done) => {
		const look = () => innerWidth === %d ? done(true) : setTimeout(look, 5);
		look();
	})`, width))
}

// scheme chooses light or dark, with nothing in motion.
func (b *browser) scheme(name string) {
	b.t.Helper()
	if _, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: name}, {Name: "prefers-reduced-motion", Value: "reduce"},
	}}); err != nil {
		b.t.Fatal(err)
	}
}

// eval returns what an expression, or the promise that it is, comes to.
func eval[T any](b *browser, expression string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("%.80s: %v", expression, err)
	}
	return value
}

//go:embed testdata/axe/axe.min.js
var axe string

// check runs axe on the present page, with its rules for WCAG 2.2 AA and its
// best practices.
func (b *browser) check(name string) {
	b.t.Helper()
	for _, found := range eval[[]string](b, `axe.run(document, {
		runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
	}).then((r) => r.violations.map((v) => v.id + ": " + v.help + "\n" + v.nodes.slice(0, 3).map((n) => "  " + n.target.join(" ") + "\n  " + n.failureSummary).join("\n")))`) {
		b.t.Errorf("%s: %s", name, found)
	}
}

// Every page, with everything on it, is accessible, wide in light and narrow in
// dark, as far as a program can judge that.
func TestPagesAreAccessible(t *testing.T) {
	t.Parallel()
	pages := filled("plain")
	b := browse(t, pages, nil)
	for name := range pages {
		b.wide(1280)
		b.scheme("light")
		b.open("/" + strings.ReplaceAll(name, " ", "-") + "/")
		eval[bool](b, axe+";true")
		b.check(name)
		b.wide(320)
		b.scheme("dark")
		b.check(name + ", narrow and dark")
	}
}

// However long what people and clusters call things, no page scrolls sideways,
// down to a width of 320 pixels.
func TestPagesFitTheirWindow(t *testing.T) {
	t.Parallel()
	pages := filled(strings.Repeat("long", 30))
	b := browse(t, pages, nil)
	for name := range pages {
		b.wide(1280)
		b.open("/" + strings.ReplaceAll(name, " ", "-") + "/")
		for _, width := range []int64{1280, 320} {
			b.wide(width)
			if over := eval[[]string](b, overhanging); len(over) > 0 {
				t.Errorf("%s, %d px wide, scrolls sideways because of %s", name, width, strings.Join(over, ", "))
			}
		}
	}
}

// overhanging names what makes the page wider than its window; what a part of
// the page scrolls or cuts off for itself does not.
const overhanging = `(() => {
	const root = document.documentElement, found = [];
	if (root.scrollWidth <= root.clientWidth) return found;
	for (const el of document.querySelectorAll("body *")) {
		if (el.getBoundingClientRect().right > root.clientWidth + 1 && !el.closest(".table-wrap, pre")) {
			found.push(el.localName + (el.className ? "." + el.className : ""));
		}
	}
	return found.length ? found.slice(-4) : ["a text that its element does not hold"];
})()`

// In a narrow window all tabs of a workload are in sight, and where somebody
// else's values are compared with one's own no name is broken into pieces.
func TestANarrowPageCutsNothingOff(t *testing.T) {
	t.Parallel()
	edit := WorkloadEdit{ID: "w1", Name: "web", Changes: []Change{
		{Field: "service_annotations", Theirs: "example.com/a=1\nexample.com/b=2", Yours: "example.com/a=2"}, {Field: "image", Theirs: "registry.example.com/web:2", Yours: "registry.example.com/web:1"},
	}}
	w := Workload{ID: "w1", Name: "web", Phase: "running", Releases: make([]Release, 12)}
	b := browse(t, map[string]templ.Component{"workload": WorkloadPage(admin(), w), "edit": WorkloadEditPage(admin(), edit)}, nil)
	for _, width := range []int64{360, 320} {
		b.wide(width)
		b.open("/workload/")
		b.sees(".tab-list")
		if cut := eval[int](b, `(() => { const l = document.querySelector(".tab-list"); return l.scrollWidth - l.clientWidth; })()`); cut > 0 {
			t.Errorf("%d px wide, %d px of the tabs are cut off", width, cut)
		}
		b.open("/edit/")
		if broken := eval[[]string](b, `[...document.querySelectorAll(".compare tbody th")].filter((th) => {
			const text = document.createRange();
			text.selectNodeContents(th);
			return text.getClientRects().length > 1;
		}).map((th) => th.textContent)`); len(broken) > 0 {
			t.Errorf("%d px wide, broken into pieces: %v", width, broken)
		}
	}
}

// What leads on from a context that cannot be registered as it is looks like a link.
func TestTheWayOutOfARefusedContextIsSeen(t *testing.T) {
	t.Parallel()
	b := browse(t, map[string]templ.Component{"found": FoundPage(admin(), FoundForm{Rows: []FoundRow{
		{Path: "a", Context: "a", ID: "a", Refusal: "It logs a person in.", Register: "/x"},
	}})}, nil)
	b.open("/found/")
	if line := eval[string](b, `getComputedStyle(document.querySelector("a[href='/x']")).textDecorationLine`); line != "underline" {
		t.Errorf("it is drawn with %q", line)
	}
}

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

// What was typed into a form outlives the end of the session, except secrets:
// it is there again once the same person has signed in.
func TestAFormOutlivesTheSession(t *testing.T) {
	t.Parallel()
	page := func(email string) templ.Component {
		p := admin()
		p.Person.Email = email
		return DeployPage(p, Deploy{
			Registered: 1, Targets: []TargetCard{{Value: "k8s:one", Label: "One"}, {Value: "k8s:two", Label: "Two"}},
			Runtimes: []RuntimeChoice{{ID: "openclaw", Label: "OpenClaw"}, {ID: "container", Label: "Container"}},
		})
	}
	const ada, bob = "ada@example.org", "bob@example.org"
	var in, next atomic.Value // who is signed in, and who will sign in
	in.Store(ada)
	next.Store(ada)
	var ended atomic.Bool // the session has
	b := browse(t, nil, map[string]http.HandlerFunc{
		"GET /deploy": func(w http.ResponseWriter, r *http.Request) { show(w, r, page(in.Load().(string))) },
		"POST /deploy": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/login?unsaved=true", http.StatusSeeOther)
		},
		"POST /deploy/preview": func(w http.ResponseWriter, _ *http.Request) {
			if ended.Load() {
				w.Header().Set("HX-Redirect", "/login?unsaved=true")
				w.WriteHeader(http.StatusUnauthorized)
			}
			_, _ = fmt.Fprint(w, "<p id=previewed>A preview</p>")
		},
		"GET /login": func(w http.ResponseWriter, r *http.Request) {
			show(w, r, LoginPage(nobody(), Login{Unsaved: r.URL.Query().Has("unsaved")}))
		},
		"POST /login": func(w http.ResponseWriter, r *http.Request) {
			in.Store(next.Load())
			http.Redirect(w, r, "/deploy", http.StatusSeeOther)
		},
	})
	// What leads to another page is done after the expression has come to something.
	send := func(button string) {
		t.Helper()
		eval[bool](b, `(() => {
			const form = document.getElementById("deploy-form"), fields = form.elements;
			fields.name.value = "web";
			fields.image.value = "registry.example/web:1";
			fields.env.value = "A=1\nB=2";
			fields.secret_env.value = "KEY=never";
			fields.runtime.value = "container";
			fields.target.value = "k8s:two";
			setTimeout(() => form.querySelector("`+button+`").click(), 0);
			return true;
		})()`)
	}
	signIn := func(who string) {
		t.Helper()
		b.sees("[data-unsaved]")
		next.Store(who)
		eval[bool](b, `setTimeout(() => document.querySelector("form[action='/login']").submit(), 0); true`)
		b.sees("#deploy-form")
	}
	holds := func(when, want string) {
		t.Helper()
		if got := eval[string](b, `(() => {
			const f = document.getElementById("deploy-form").elements;
			return [f.name, f.image, f.env, f.secret_env, f.runtime, f.target].map((e) => e.value).join(" ");
		})()`); got != want {
			t.Errorf("%s the form holds %q, want %q", when, got, want)
		}
	}
	keepsNothing := func(when string) {
		t.Helper()
		eval[bool](b, `new Promise((done) => document.readyState === "complete" ? done(true) : addEventListener("load", () => done(true)))`)
		if kept := eval[string](b, "JSON.stringify(sessionStorage)"); kept != "{}" {
			t.Errorf("%s the tab still keeps %s", when, kept)
		}
	}
	const typed = "web registry.example/web:1 A=1\nB=2  container k8s:two"
	const submit, preview = "button.primary", "button[formaction='/deploy/preview']"

	b.open("/deploy")
	keepsNothing("at first")
	send(preview)
	b.sees("#previewed")
	keepsNothing("after a preview")

	send(submit)
	signIn(ada)
	b.sees("[data-restored]")
	holds("after signing in again", typed)
	keepsNothing("after signing in again")

	ended.Store(true)
	send(preview)
	signIn(ada)
	b.sees("[data-restored]")
	holds("after a preview and signing in again", typed)

	b.open("/deploy")
	send(submit)
	signIn(bob)
	keepsNothing("when somebody else signs in")
	if name := eval[string](b, `document.getElementById("deploy-form").elements.name.value`); name != "" {
		t.Errorf("somebody else is shown %q", name)
	}

	send(submit)
	b.sees("[data-unsaved]")
	b.open("/login")
	keepsNothing("when somebody comes to sign in afresh")
}

// The code of an invitation is there again when the form comes back, though the
// server does not repeat it, and when the link is opened once more in the same tab.
func TestAnInvitationsCodeIsNotLost(t *testing.T) {
	t.Parallel()
	page := InvitePage(nobody(), Invite{})
	b := browse(t, map[string]templ.Component{"invite": page, "login": LoginPage(nobody(), Login{})}, map[string]http.HandlerFunc{
		"POST /invite": func(w http.ResponseWriter, r *http.Request) {
			show(w, r, InvitePage(nobody(), Invite{Form: ui.Form{Errors: map[string]string{"password": "is too simple"}}}))
		},
	})
	holds := func(when, want string) {
		t.Helper()
		const ask = `document.querySelector("[name=token]").value + " " + location.hash + JSON.stringify(sessionStorage)`
		if got := eval[string](b, ask); got != want+" {}" {
			t.Errorf("%s the page has %q, want %q", when, got, want+" {}")
		}
	}
	b.open("/invite/#first")
	holds("at first", "first")
	password := chromedp.CSS("[name=password]")
	b.do("a short password", chromedp.SendKeys(password, "short"))
	if !eval[bool](b, `document.querySelector("[name=password]").validity.tooShort`) {
		t.Error("a password that is too short is sent")
	}
	b.do("a longer password", chromedp.SendKeys(password, " but long enough"))
	b.do("send it", chromedp.Click(chromedp.CSS("button.primary")))
	b.sees("#form-error")
	holds("after an error", "first")
	eval[bool](b, `new Promise((done) => {
		addEventListener("hashchange", () => setTimeout(() => done(true)), { once: true });
		location.hash = "second";
	})`)
	holds("with the next link", "second")
	eval[bool](b, `sessionStorage.setItem("invitation", "left"); true`)
	b.open("/login/")
	if kept := eval[string](b, "JSON.stringify(sessionStorage)"); kept != "{}" {
		t.Errorf("another page keeps %s", kept)
	}
}

// Who stops a request that takes too long finds the form as it was, with a button
// that can be pressed again.
func TestAStoppedRequestFreesItsForm(t *testing.T) {
	t.Parallel()
	begun := make(chan bool, 2)
	b := browse(t, map[string]templ.Component{"deploy": DeployPage(admin(), Deploy{
		Registered: 1, Targets: []TargetCard{{Value: "k8s:one", Label: "One"}}, Runtimes: []RuntimeChoice{{ID: "container", Label: "Container"}},
	})}, map[string]http.HandlerFunc{
		"POST /deploy": func(_ http.ResponseWriter, r *http.Request) {
			_ = r.ParseForm() // else nobody notices that the client goes
			begun <- true
			<-r.Context().Done()
		},
	})
	b.open("/deploy/")
	for range 2 {
		eval[bool](b, `(() => {
			document.querySelector("[name=name]").value = "web";
			setTimeout(() => document.querySelector("#deploy-form .primary").click());
			return true;
		})()`)
		select {
		case <-begun:
		case <-time.After(patience):
			t.Fatal("the form is not sent")
		}
		if _, err := chromedp.Call(b.ctx, page.StopLoading, cdp.Empty{}); err != nil {
			t.Fatal(err)
		}
		b.sees("#deploy-form .primary:enabled:not([aria-busy])")
	}
}

// The error above a long form leads to each field that needs another look.
func TestFormErrorsLeadToTheirFields(t *testing.T) {
	t.Parallel()
	b := browse(t, map[string]templ.Component{"new": filled("plain")["new cluster"], "deploy": filled("plain")["deploy"]}, nil)
	for _, page := range []string{"/new/", "/deploy/"} {
		b.open(page)
		b.sees("#form-error a")
		if at := eval[string](b, "document.activeElement.id"); at != "form-error" {
			t.Errorf("%s: the focus is at %q, want the error", page, at)
		}
		reached := eval[[]string](b, `[...document.querySelectorAll("#form-error a")].map((a) => (a.click(), document.activeElement.name))`)
		wrong := eval[[]string](b, `[...document.querySelectorAll("[data-field-name]:has(.field-error)")].map((e) => e.dataset.fieldName)`)
		if len(reached) == 0 || strings.Join(reached, " ") != strings.Join(wrong, " ") {
			t.Errorf("%s: it leads to %v, of %v", page, reached, wrong)
		}
	}
}

// What a preview finds wrong leads to the field, whatever kind of field it is, and
// the button that asked for it keeps the focus.
func TestAPreviewLeadsToItsFields(t *testing.T) {
	t.Parallel()
	wrong := map[string]string{}
	for _, name := range []string{"target", "runtime", "name", "ports", "volumes", "health_type", "workload_kind", "file_path_1"} {
		wrong[name] = "needs another look"
	}
	page := DeployPage(admin(), Deploy{
		Registered: 1, Targets: []TargetCard{{Value: "k8s:one", Label: "One"}, {Value: "k8s:two", Label: "Two"}},
		Runtimes: []RuntimeChoice{{ID: "container", Label: "Container"}}, Form: ui.Form{Errors: wrong},
	})
	b := browse(t, map[string]templ.Component{"deploy": page}, map[string]http.HandlerFunc{
		"POST /deploy/preview": func(w http.ResponseWriter, r *http.Request) { show(w, r, PreviewFragment(&Preview{Fields: wrong})) },
	})
	b.open("/deploy/")
	b.sees("#form-error a")
	if n := eval[int](b, `document.querySelectorAll("#form-error a").length`); n != len(wrong) {
		t.Errorf("the error leads to %d fields, want %d", n, len(wrong))
	}
	eval[bool](b, `(() => {
		const button = document.querySelector("button[formaction='/deploy/preview']");
		button.focus();
		button.click();
		return true;
	})()`)
	b.sees("#preview a")
	b.sees("button[formaction='/deploy/preview']:enabled")
	if dead := eval[[]string](b, `[...document.querySelectorAll("#preview a")].map((a) => a.hash).filter((to) => !document.querySelector(to))`); len(dead) > 0 {
		t.Errorf("links of the preview that lead nowhere: %v", dead)
	}
	if at := eval[string](b, "document.activeElement.textContent"); at != "Preview" {
		t.Errorf("the focus is at %.40q, want the button Preview", at)
	}
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
	b := browse(t, map[string]templ.Component{"logs": LogsPage(admin(), pane)}, map[string]http.HandlerFunc{
		"GET /workloads/w1/logs/stream": func(w http.ResponseWriter, r *http.Request) {
			choices <- r.URL.Query().Get("pod")
			says("id: 1\nevent: pods\ndata: web-c web-d web-e\n\nid: 1\nevent: notice\ndata: No pod has started yet.\n\n"+
				"id: 2\ndata: <div data-line>a line</div>\n\n")(w, r)
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

	eval[bool](b, `(() => {
		const pod = document.querySelector("select[name=pod]");
		pod.add(new Option("web-a", "web-a", false, true)); // as one that has gone meanwhile
		pod.dispatchEvent(new Event("change", { bubbles: true }));
		return true;
	})()`)
	b.sees("[data-line]")
	if got := options(); got != "all pods (3), web-c, web-d, web-e, web-a: web-a" {
		t.Errorf("with one chosen it offers %q", got)
	}
	if first, then := <-choices, <-choices; first != "" || then != "web-a" {
		t.Errorf("it read %q, then %q", first, then)
	}
}

// Where a time of day stands without its day, its zone is said, as nobody's own is
// meant.
func TestTimesOfDaySayTheirZone(t *testing.T) {
	t.Parallel()
	pages := filled("plain")
	for name, css := range map[string]string{"operation": "#operation-events .card-head", "logs": "[data-log-stamps]"} {
		b := browse(t, map[string]templ.Component{"page": pages[name]}, nil)
		b.open("/page/")
		if says := eval[string](b, `(() => { const e = document.querySelector("`+css+`"); return e.innerText + " " + e.title; })()`); !strings.Contains(says, "UTC") {
			t.Errorf("%s: %q", name, says)
		}
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
