package e2e

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// surfer is a person at a real Chromium. What the page's console complains
// about, breaches of the content security policy among it, fails the test.
type surfer struct {
	t       testing.TB
	ctx     context.Context
	base    string
	scripts bool

	mu       sync.Mutex
	expected []string // complaints that the test provokes, by a part of their text
}

// surf starts a browser of the test's own, with scripts or without.
func surf(t testing.TB, base string, scripts bool) *surfer {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-component-update", true),
		chromedp.WSURLReadTimeout(patience),
	)
	allocated, endBrowser := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(endBrowser)
	ctx, closeTab := chromedp.NewContext(allocated)
	var heard sync.WaitGroup
	t.Cleanup(func() {
		if err := chromedp.Cancel(ctx); err != nil { // waits until it has ended
			t.Logf("closing Chromium: %v", err)
		}
		closeTab()
		heard.Wait()
	})
	s := &surfer{t: t, ctx: ctx, base: base, scripts: scripts}
	console := chromedp.Console(ctx)
	heard.Go(func() {
		for m, err := range console {
			if err != nil {
				return
			}
			s.complaint(m)
		}
	})
	if !scripts {
		if _, err := chromedp.Call(ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true}); err != nil {
			t.Fatal(err)
		}
	}
	s.size(1440, 900)
	return s
}

func (s *surfer) complaint(m chromedp.ConsoleMessage) {
	if m.Type != "error" && m.Type != "warning" && !m.IsException() && !strings.Contains(m.Text, "Content Security Policy") {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.expected {
		if strings.Contains(m.Text, e) {
			return
		}
	}
	s.t.Errorf("the console says: %s (%s:%d)", m, m.URL, m.Line)
}

// expects lets the console complain in these words.
func (s *surfer) expects(part string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expected = append(s.expected, part)
}

// do runs actions within the time that a page may take.
func (s *surfer) do(what string, actions ...chromedp.Action[chromedp.Void]) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		s.shot("failed-" + s.t.Name())
		s.t.Fatalf("%s at %s: %v\n%s", what, s.path(), err, clipped(s.text()))
	}
}

func (s *surfer) open(path string) {
	s.t.Helper()
	s.do("open "+path, chromedp.Navigate(s.base+path))
}

func (s *surfer) click(css string) {
	s.t.Helper()
	s.do("click "+css, chromedp.Click(chromedp.CSS(css)))
}

// follow clicks what leads to another page, or to the same one anew, and waits
// until it has loaded.
func (s *surfer) follow(css string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	if _, err := chromedp.RunResponse(ctx, chromedp.Click(chromedp.CSS(css))); err != nil {
		s.shot("failed-" + s.t.Name())
		s.t.Fatalf("follow %s at %s: %v\n%s", css, s.path(), err, clipped(s.text()))
	}
}

// fill types into a field, in place of what is there.
func (s *surfer) fill(css, text string) {
	s.t.Helper()
	s.do("wait for "+css, chromedp.WaitVisible(chromedp.CSS(css)))
	run(s, "select "+css, chromedp.Evaluate[bool](fmt.Sprintf("(e => { e.focus(); e.select(); return true })(document.querySelector(%q))", css)))
	s.do("fill "+css, chromedp.SendKeys(chromedp.CSS(css), text))
}

// sees waits until the page has an element. Without scripts the person
// reloads the page until it has.
func (s *surfer) sees(css string) {
	s.t.Helper()
	if s.scripts {
		s.do("wait for "+css, chromedp.WaitReady(chromedp.CSS(css)))
		return
	}
	eventually(s.t, patience, css+" after reloading", func() (bool, string) {
		if s.count(css) > 0 {
			return true, ""
		}
		s.do("reload", chromedp.Reload())
		return s.count(css) > 0, clipped(s.text())
	})
}

// arrives waits for an element of the page that a form or link leads to.
func (s *surfer) arrives(css string) {
	s.t.Helper()
	s.do("arrive at "+css, chromedp.WaitReady(chromedp.CSS(css)))
}

func run[T any](s *surfer, what string, action chromedp.Action[T]) T {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	value, err := chromedp.Run(ctx, action)
	if err != nil {
		s.t.Fatalf("%s: %v", what, err)
	}
	return value
}

func (s *surfer) count(css string) int {
	s.t.Helper()
	return run(s, "count "+css, chromedp.Evaluate[int](fmt.Sprintf("document.querySelectorAll(%q).length", css)))
}

func (s *surfer) attribute(css, name string) string {
	s.t.Helper()
	return run(s, name+" of "+css, chromedp.Evaluate[string](fmt.Sprintf("document.querySelector(%q)?.getAttribute(%q) ?? ''", css, name)))
}

// text is what the page shows, as far as it can still be asked.
func (s *surfer) text() string {
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string]("document.body?.innerText ?? ''"))
	if err != nil {
		return err.Error()
	}
	return text
}

// path is where the browser is.
func (s *surfer) path() string {
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	at, err := chromedp.Run(ctx, chromedp.Location())
	if err != nil {
		return err.Error()
	}
	u, err := url.Parse(at)
	if err != nil {
		return at
	}
	return u.RequestURI()
}

func (s *surfer) size(width, height int64) {
	s.t.Helper()
	s.do("resize", chromedp.EmulateViewport(width, height))
}

// scheme chooses light or dark, without the passage from one to the other, in
// which a picture would show neither.
func (s *surfer) scheme(name string) {
	s.t.Helper()
	_, err := chromedp.Call(s.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}, {Name: "prefers-reduced-motion", Value: "reduce"}},
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

// shot keeps a picture of the whole page for people to look at.
func (s *surfer) shot(name string) {
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	picture, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err != nil {
		s.t.Logf("screenshot %s: %v", name, err)
		return
	}
	path, err := artefact("screenshots", strings.ReplaceAll(name, "/", "_")+".png")
	if err == nil {
		err = os.WriteFile(path, picture, 0o644)
	}
	if err != nil {
		s.t.Error(err)
	}
}

// portray keeps pictures of the present page in both schemes, wide and narrow,
// and fails when it scrolls sideways, down to 320 pixels.
func (s *surfer) portray(name string) {
	s.t.Helper()
	for _, width := range []int64{1440, 390, 320} {
		s.size(width, 900)
		if over := run(s, "measure", chromedp.Evaluate[int]("document.documentElement.scrollWidth - document.documentElement.clientWidth")); over > 0 {
			s.t.Errorf("%s: %d px wide, it scrolls sideways by %d px", name, width, over)
		}
		if width == 320 {
			continue
		}
		for _, scheme := range []string{"light", "dark"} {
			s.scheme(scheme)
			s.shot(fmt.Sprintf("%s-%d-%s", name, width, scheme))
		}
	}
	s.scheme("light")
	s.size(1440, 900)
}

// shows waits until an element can be seen.
func (s *surfer) shows(css string) {
	s.t.Helper()
	s.do("show "+css, chromedp.WaitVisible(chromedp.CSS(css)))
}
