package views

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/a-h/templ"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"portolan/views/ui"
)

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
