package web

import (
	"bytes"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/go-chi/chi/v5"

	"portolan/internal/auth"
	"portolan/internal/fleet"
)

// The tests named after attacks try what has gone wrong in programs like this
// one; the others of the list are where their door is.

// liveRoutes are the routes of the router itself, with an id in them that is
// nobody's.
func (b *bundle) liveRoutes() map[string]string {
	b.t.Helper()
	out := map[string]string{}
	fill := strings.NewReplacer("{id}", "018f0000-0000-7000-8000-000000000000", "*", "none")
	err := chi.Walk(b.server.router.(chi.Routes), func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		out[method+" "+route] = fill.Replace(route)
		return nil
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}

// turnedAway reports whether an answer is what somebody gets who is not signed in.
func turnedAway(a answer) bool {
	return a.status == http.StatusUnauthorized || a.status == http.StatusSeeOther && strings.HasPrefix(a.location(), "/login")
}

// TestAttack05EveryMethodOfEveryRouteForEveryRole walks the live router. Methods
// that a route does not have do nothing for anybody, and HEAD is as closed as
// GET.
func TestAttack05EveryMethodOfEveryRouteForEveryRole(t *testing.T) {
	t.Parallel()
	b := setup(t)
	people := map[fleet.Role]*client{}
	for _, role := range fleet.Roles {
		people[role] = b.user(role)
	}
	nobody := b.client()
	routes := b.liveRoutes()
	served := func(method, pattern string) bool {
		_, ok := routes[method+" "+pattern]
		return ok || method == http.MethodHead && routes["GET "+pattern] != ""
	}
	seen := map[string]bool{}
	for route, path := range routes {
		_, pattern, _ := strings.Cut(route, " ")
		if seen[pattern] || path == "/logout" {
			continue
		}
		seen[pattern] = true
		for _, method := range []string{"GET", "HEAD", "POST", "OPTIONS", "PUT", "PATCH", "DELETE"} {
			if !served(method, pattern) {
				if a := nobody.do(method, path, nil); !turnedAway(a) && a.status != http.StatusMethodNotAllowed {
					t.Errorf("%s %s by nobody: %d", method, path, a.status)
				}
				for role, c := range people {
					if a := c.do(method, path, nil); a.status != http.StatusMethodNotAllowed && a.status != http.StatusForbidden && a.status != http.StatusNotFound {
						t.Errorf("%s %s by %s: %d", method, path, role, a.status)
					}
				}
				continue
			}
			entry := method + " " + pattern
			if method == http.MethodHead {
				entry = "GET " + pattern
			}
			least, known := access[entry]
			if !known {
				t.Errorf("%s has no entry in the access table", entry)
			}
			if least == open {
				continue
			}
			if a := nobody.do(method, path, nil); !turnedAway(a) {
				t.Errorf("%s %s by nobody: %d", method, path, a.status)
			}
			for role, c := range people {
				a := c.do(method, path, nil)
				if forbidden := a.status == http.StatusForbidden; forbidden == role.Includes(least) || turnedAway(a) || a.status == http.StatusInternalServerError {
					t.Errorf("%s %s by %s: %d", method, path, role, a.status)
				}
			}
		}
	}
}

// TestAttack05UnregisteredRoutes: what nobody serves is nothing, however it is
// written, and none of it is another way to what is closed.
func TestAttack05UnregisteredRoutes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	viewer, nobody := b.user(fleet.RoleViewer), b.client()
	b.target(b.user(fleet.RoleAdmin), "one")
	for _, path := range []string{
		"/metrics", "/debug/pprof/", "/.env", "/.git/config", "/api/v1/clusters", "/admin", "/admin/", "/admin/clusters/", "/ADMIN/clusters",
		"//admin/clusters", "/./admin/clusters", "/admin//clusters", "/workloads/../admin/clusters", "/%2e%2e/admin/clusters", "/admin%2fclusters",
		"/admin/clusters%2fone", "/admin/clusters/one/", "/admin/clusters/one/kubeconfig", "/admin/clusters/one;/edit", "/static/../admin/clusters",
		"/static/%2e%2e/admin/clusters", "/static/", "/static/css/", "/admin/clusters/one%00", "/admin/clusters?/login",
	} {
		if a := viewer.get(path); a.status < 300 || a.status >= 500 || strings.Contains(a.body, "k8s:one") {
			t.Errorf("%s by a viewer: %d", path, a.status)
		}
		if a := nobody.get(path); a.status < 300 || a.status >= 500 || strings.Contains(a.body, "k8s:one") {
			t.Errorf("%s by nobody: %d", path, a.status)
		}
	}
}

// TestAttack06AbsentAndForbiddenAreTheSame: who may not see a thing does not
// learn whether it is there.
func TestAttack06AbsentAndForbiddenAreTheSame(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin := b.user(fleet.RoleAdmin)
	b.target(admin, "cluster-that-is")
	workload, operation := b.deployed(admin, "cluster-that-is", "web")
	person, err := b.db.UserByEmail(t.Context(), "admin@example.com")
	if err != nil {
		t.Fatal(err)
	}
	const absent = "018f0000-0000-7000-8000-000000000000"
	plain := func(a answer, id string) string {
		body := strings.ReplaceAll(a.body, a.header.Get("X-Request-Id"), "request")
		return strings.ReplaceAll(body, id, "id")
	}
	outsiders := map[string]*client{"viewer": b.user(fleet.RoleViewer), "operator": b.user(fleet.RoleOperator), "nobody": b.client()}
	compared := 0
	for route := range b.liveRoutes() {
		method, pattern, _ := strings.Cut(route, " ")
		if !strings.Contains(pattern, "{id}") {
			continue
		}
		ids := []string{"cluster-that-is"}
		switch {
		case strings.HasPrefix(pattern, "/workloads"):
			ids = []string{workload}
		case strings.HasPrefix(pattern, "/operations"):
			ids = []string{operation}
		case strings.HasPrefix(pattern, "/admin/users"):
			ids = []string{person.ID}
		}
		for name, c := range outsiders {
			if role := fleet.Role(name); name != "nobody" && role.Includes(access[route]) {
				continue
			}
			for _, id := range ids {
				is := c.do(method, strings.Replace(pattern, "{id}", id, 1), nil)
				isNot := c.do(method, strings.Replace(pattern, "{id}", absent, 1), nil)
				compared++
				if is.status != isNot.status || plain(is, id) != plain(isNot, absent) ||
					strings.ReplaceAll(is.location(), id, "id") != strings.ReplaceAll(isNot.location(), absent, "id") {
					t.Errorf("%s by %s: %d %s for one that is there, %d %s for one that is not", route, name, is.status, is.location(), isNot.status, isNot.location())
				}
			}
		}
	}
	if compared < 40 {
		t.Errorf("only %d were compared", compared)
	}
}

// TestAttack07TheTargetChangesBetweenFormAndPost: a deploy goes to what was
// tested, or nowhere.
func TestAttack07TheTargetChangesBetweenFormAndPost(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin, operator := b.user(fleet.RoleAdmin), b.user(fleet.RoleOperator)
	draft := fields{"target": "k8s:one", "runtime": "container", "name": "web", "image": "demo:1"}
	changed := clusterFields("one").but("kubeconfig", "")
	for name, change := range map[string]fields{
		"namespace": changed.but("namespace", "kube-system"),
		"context":   changed.but("context", "main"),
		"exposure":  changed.but("exposure_mode", "cluster-ip"),
		"tls":       changed.but("allow_tls_skip", "true"),
		"proxy":     changed.but("allow_proxy", "true"),
	} {
		id := "one-" + name
		b.target(admin, id)
		if a := operator.get("/deploy"); !strings.Contains(a.body, `data-target="k8s:`+id+`"`) {
			t.Fatalf("%s is no target", id)
		}
		status, err := b.db.ClusterStatus(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		change = change.but("version", "1").but("label", "Cluster "+id)
		if a := admin.post("/admin/clusters/"+id, change); a.status != http.StatusSeeOther {
			t.Fatalf("%s (version %d): %d\n%s", name, status.Cluster.Version, a.status, a.body)
		}
		if a := operator.post("/deploy", draft.but("target", "k8s:"+id)); a.status != http.StatusConflict || !strings.Contains(a.body, "changed since its test") {
			t.Errorf("deploy after a change of the %s: %d", name, a.status)
		}
	}
	page, err := b.db.Operations(t.Context(), fleet.OperationFilter{})
	if err != nil || len(page.Rows) != 0 {
		t.Errorf("%d operations began, %v", len(page.Rows), err)
	}
}

// TestAttack08HeadersMakeNobodyElse: no header but the session's cookie says
// who somebody is, and none changes what a request does.
func TestAttack08HeadersMakeNobodyElse(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.target(b.user(fleet.RoleAdmin), "one")
	viewer, nobody := b.user(fleet.RoleViewer), b.client()
	for _, headers := range [][]string{
		{"Impersonate-User", "admin@example.com"}, {"Impersonate-Group", "system:masters"}, {"X-Remote-User", "admin@example.com"},
		{"X-Forwarded-User", "admin@example.com"}, {"X-Forwarded-Email", "admin@example.com"}, {"Authorization", "Bearer admin@example.com"},
		{"Connection", "Cookie, X-Forwarded-For"}, {"X-Original-URL", "/login"}, {"X-Rewrite-URL", "/login"}, {"X-Forwarded-Prefix", "/login"},
		{"X-HTTP-Method-Override", "GET"}, {"X-Forwarded-For", "127.0.0.1"}, {"X-Real-IP", "127.0.0.1"},
	} {
		if a := viewer.get("/admin/clusters/one", headers...); a.status != http.StatusForbidden {
			t.Errorf("%v by a viewer: %d", headers, a.status)
		}
		if a := nobody.get("/admin/clusters/one", headers...); !turnedAway(a) {
			t.Errorf("%v by nobody: %d", headers, a.status)
		}
	}
	operator := b.user(fleet.RoleOperator)
	for _, name := range []string{"X-HTTP-Method-Override", "X-Method-Override", "X-HTTP-Method"} {
		if a := operator.get("/workloads", name, "POST"); a.status != http.StatusOK {
			t.Errorf("%s on a GET: %d", name, a.status)
		}
	}
}

// TestAttack11SecretsInURLs: nothing that opens a door is read from an address,
// and what people put there by mistake is neither kept nor repeated.
func TestAttack11SecretsInURLs(t *testing.T) {
	t.Parallel()
	var log journal
	b := setup(t, func(o *Options) {
		o.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	c := b.client()
	if a := c.get("/setup?token=" + b.token); strings.Contains(a.body, b.token) {
		t.Error("the setup page repeats a token of its address")
	}
	if a := c.post("/setup?token="+b.token+"&email=a@example.com&password=a+long+password", nil); a.status != http.StatusUnprocessableEntity {
		t.Errorf("setup by address: %d", a.status)
	}
	admin := b.user(fleet.RoleAdmin)
	if a := c.post("/login?email=admin@example.com&password=a+long+enough+password", nil); a.status == http.StatusSeeOther {
		t.Error("signed in by address")
	}
	session := admin.post("/login", fields{"email": "admin@example.com", "password": password}).header.Get("Set-Cookie")
	value, _, _ := strings.Cut(strings.TrimPrefix(session, auth.CookieName+"="), ";")
	for _, name := range []string{auth.CookieName, "session", "token", "access_token"} {
		if a := c.get("/admin/clusters?" + name + "=" + value); !turnedAway(a) {
			t.Errorf("?%s= opens: %d", name, a.status)
		}
	}
	a := admin.post("/admin/users/invite", fields{"email": "new@example.com", "role": "viewer"})
	_, link, found := strings.Cut(a.body, "/invite")
	if !found || !strings.HasPrefix(link, "#") {
		t.Errorf("the token of an invitation is not behind the # of its link: %.40s", link)
	}
	for _, a := range []answer{admin.get("/"), c.get("/login")} {
		if policy := a.header.Get("Referrer-Policy"); policy != "same-origin" && policy != "no-referrer" {
			t.Errorf("other sites are told the address: %q", policy)
		}
	}
	for _, secret := range []string{b.token, value, "enough"} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("the log holds %q", secret)
		}
	}
	if !strings.Contains(log.String(), "path=/admin/clusters") {
		t.Error("the log holds no requests at all")
	}
}

// journal is a log in memory.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// TestAttack12WebSockets: there are none, so that another site cannot open one.
func TestAttack12WebSockets(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin := b.user(fleet.RoleAdmin)
	b.target(admin, "one")
	for _, path := range []string{"/", "/admin/clusters/one/stream", "/workloads"} {
		a := admin.get(path, "Connection", "Upgrade", "Upgrade", "websocket", "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site",
			"Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version", "13")
		if a.status == http.StatusSwitchingProtocols || strings.HasSuffix(path, "/stream") && a.status != http.StatusForbidden {
			t.Errorf("%s: %d", path, a.status)
		}
	}
}

// TestAttack13LargeRequests: each body has its bound, and so has the header.
func TestAttack13LargeRequests(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin := b.user(fleet.RoleAdmin)
	for path, bound := range map[string]int{
		"/login": smallBody, "/admin/clusters": clusterBody, "/admin/clusters/inspect": clusterBody, "/deploy": deployBody, "/deploy/preview": deployBody,
	} {
		if a := admin.post(path, fields{"label": strings.Repeat("x", bound+1)}); a.status != http.StatusRequestEntityTooLarge {
			t.Errorf("%s with more than %d bytes: %d", path, bound, a.status)
		}
	}
	many := strings.NewReader(strings.Repeat("a=b&", smallBody/4-1))
	if a := admin.do(http.MethodPost, "/login", many, "Content-Type", "application/x-www-form-urlencoded"); a.status >= 500 {
		t.Errorf("many fields: %d", a.status)
	}
}

// TestAttack14ScriptAndANSI: what others have written is text on every page.
func TestAttack14ScriptAndANSI(t *testing.T) {
	t.Parallel()
	const script, ansi = `<script>alert(1)</script><img src=x onerror=alert(1)>`, "\x1b[31mred\x1b]8;;https://evil.example\x07"
	b := setup(t)
	admin := b.user(fleet.RoleAdmin)
	form := clusterFields("one")
	form["label"], form["region"], form["cluster_name"] = "L "+script, "R "+script, "C "+script
	if a := admin.post("/admin/clusters", form); a.status != http.StatusSeeOther {
		t.Fatalf("%d\n%s", a.status, a.body)
	}
	for _, field := range []string{"label", "region", "cluster_name"} {
		if a := admin.post("/admin/clusters", clusterFields("two").but(field, ansi)); a.status != http.StatusUnprocessableEntity || strings.Contains(a.body, "\x1b") {
			t.Errorf("control characters in the %s: %d", field, a.status)
		}
	}
	if a := admin.post("/admin/clusters/one/test", nil); a.status != http.StatusSeeOther {
		t.Fatal(a.status)
	}
	b.until("the test to end", func() bool {
		s, err := b.db.ClusterStatus(t.Context(), "one")
		return err == nil && s.IsTarget()
	})
	workload, operation := b.deployed(admin, "one", "web")
	b.exec(`UPDATE operations SET state = 'failed', finished_at = now(), failure = jsonb_build_object('reason', 'crash', 'message', $1::text,
		'remedy', $1::text, 'object', $1::text, 'lines', jsonb_build_array($1::text)) WHERE id = $2`, script+ansi, operation)
	b.exec(`INSERT INTO audit (at, actor, action, target, outcome, reason, address, diff)
		VALUES (now(), $1, $1, $1, 'ok', $1, $1, jsonb_build_object($1::text, jsonb_build_array($1::text, $1::text)))`, script+ansi)
	b.exec(`UPDATE connection_tests SET checks = jsonb_set(checks, '{0,message}', to_jsonb($1::text)), identity = $1, server_version = $1`, script+ansi)
	for _, path := range []string{
		"/", "/admin/clusters", "/admin/clusters/one", "/admin/clusters/one/edit", "/admin/clusters/one/delete", "/admin/audit", "/deploy",
		"/workloads", "/workloads?q=" + "%3Cscript%3Ealert(1)%3C/script%3E", "/workloads/" + workload, "/operations", "/operations/" + operation, "/admin/users",
	} {
		a := admin.get(path)
		if a.status != http.StatusOK {
			t.Errorf("%s: %d", path, a.status)
		}
		if strings.Contains(a.body, "<script>alert") || strings.Contains(a.body, "<img src=x") || strings.Contains(a.body, "\x1b") {
			t.Errorf("%s repeats what was written as it was", path)
		}
	}
	b.logs.batches = make(chan fleet.LogBatch, 1)
	b.logs.batches <- fleet.LogBatch{Lines: []fleet.LogLine{{Pod: "web-1", Text: script + ansi + "\x00\u202e", Position: "p1"}}}
	live := admin.open("/workloads/"+workload+"/logs/stream", "")
	m, _ := live.next()
	if strings.Contains(m.data, "<script") || strings.Contains(m.data, "<img") || strings.Contains(m.data, "\x00") || strings.Count(m.data, "\x1b") != 1 /* the colour */ || strings.Contains(m.data, "evil.example") {
		t.Errorf("a log line: %q", m.data)
	}
}

func (b *bundle) exec(sql string, args ...any) {
	b.t.Helper()
	if _, err := b.db.Pool().Exec(b.t.Context(), sql, args...); err != nil {
		b.t.Fatal(err)
	}
}
