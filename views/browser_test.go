package views

import (
	"context"
	_ "embed"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/a-h/templ"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"portolan/static"
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
