package web

import (
	"context"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/google/uuid"

	"portolan/internal/fleet"
	"portolan/static"
	"portolan/views"
)

// The bounds of a request's body. A form of a cluster holds a kubeconfig of at
// most 1 MiB; the room above that is for telling someone who brings a larger
// one so beside the field, with the rest of the form kept. A deploy form holds
// up to 900 KiB of files, which URL encoding can make three times as long.
const (
	smallBody   = 64 << 10
	clusterBody = 8 << 20
	deployBody  = 4 << 20
)

// How long an answer may take. Streams have no end of their own.
const (
	pageTimeout     = 30 * time.Second
	rotationTimeout = time.Minute // it waits for a connection test, or two
)

// handler answers a request, or returns why it cannot.
type handler func(w http.ResponseWriter, r *http.Request) error

// routes makes the router. Every route goes through guard, which asks the
// table of access.go.
func (s *Server) routes() http.Handler {
	r := chi.NewRouter()
	r.Use(s.instrument, s.recoverPanic, s.securityHeaders, middleware.GetHead, s.sameOrigin)
	r.NotFound(s.guard("GET /", smallBody, pageTimeout, notFound))
	r.MethodNotAllowed(s.guard("GET /", smallBody, pageTimeout, methodNotAllowed))

	get := func(pattern string, h handler) {
		r.Get(pattern, s.guard("GET "+pattern, smallBody, pageTimeout, h))
	}
	stream := func(pattern string, h handler) {
		r.Get(pattern, s.guard("GET "+pattern, smallBody, 0, s.limited(h)))
	}
	post := func(pattern string, body int64, h handler) {
		r.Post(pattern, s.guard("POST "+pattern, body, pageTimeout, h))
	}

	r.Get("/healthz", s.healthz)
	r.Get("/readyz", s.readyz)
	r.Get(static.Prefix+"*", s.Assets.Handler().ServeHTTP)

	get("/setup", s.showSetup)
	post("/setup", smallBody, s.setup)
	get("/login", s.showLogin)
	post("/login", smallBody, s.login)
	post("/logout", smallBody, s.logout)
	get("/invite", s.showInvite)
	post("/invite", smallBody, s.acceptInvite)
	get("/", s.overview)

	get("/profile", s.showProfile)
	post("/profile/password", smallBody, s.changePassword)
	post("/profile/sessions/end", smallBody, s.endOtherSessions)
	post("/profile/sessions/{id}/end", smallBody, s.endOwnSession)
	r.Get("/admin/audit", s.guard("GET /admin/audit", smallBody, 0, s.showAudit))
	get("/admin/users", s.listUsers)
	post("/admin/users/invite", smallBody, s.inviteUser)
	post("/admin/invites/{id}/delete", smallBody, s.withdrawInvite)
	post("/admin/users/{id}/role", smallBody, s.setUserRole)
	post("/admin/users/{id}/disable", smallBody, s.setUserDisabled(true))
	post("/admin/users/{id}/enable", smallBody, s.setUserDisabled(false))
	post("/admin/users/{id}/sessions", smallBody, s.endUserSessions)
	get("/admin/users/{id}/delete", s.askDeleteUser)
	post("/admin/users/{id}/delete", smallBody, s.deleteUser)

	get("/admin/clusters", s.listClusters)
	post("/admin/clusters", clusterBody, s.createCluster)
	get("/admin/clusters/new", s.newCluster)
	get("/admin/clusters/new/found", s.showFound)
	post("/admin/clusters/new/found", clusterBody, s.registerFound)
	post("/admin/clusters/test", smallBody, s.testClusters)
	post("/admin/clusters/inspect", clusterBody, s.inspectKubeconfig)
	get("/admin/clusters/{id}", s.showCluster)
	post("/admin/clusters/{id}", clusterBody, s.updateCluster)
	get("/admin/clusters/{id}/edit", s.editCluster)
	post("/admin/clusters/{id}/test", smallBody, s.testCluster)
	get("/admin/clusters/{id}/credential", s.showCredential)
	r.Post("/admin/clusters/{id}/credential", s.guard("POST /admin/clusters/{id}/credential", clusterBody, rotationTimeout, s.rotateCredential))
	post("/admin/clusters/{id}/enable", smallBody, s.setClusterEnabled(true))
	post("/admin/clusters/{id}/disable", smallBody, s.setClusterEnabled(false))
	get("/admin/clusters/{id}/delete", s.askDeleteCluster)
	post("/admin/clusters/{id}/delete", smallBody, s.deleteCluster)
	stream("/admin/clusters/{id}/stream", s.streamCluster)
	get("/admin/clusters/{id}/rbac.yaml", s.clusterManifest)

	get("/deploy", s.showDeploy)
	post("/deploy", deployBody, s.deploy)
	post("/deploy/preview", deployBody, s.previewDeploy)

	get("/workloads", s.listWorkloads)
	get("/workloads/{id}", s.showWorkload)
	stream("/workloads/{id}/stream", s.streamWorkload)
	get("/workloads/{id}/logs", s.showLogs)
	stream("/workloads/{id}/logs/stream", s.streamLogs)
	get("/workloads/{id}/edit", s.editWorkload)
	post("/workloads/{id}/update", deployBody, s.updateWorkload)
	for _, verb := range []fleet.Verb{
		fleet.VerbStop, fleet.VerbStart, fleet.VerbRestart, fleet.VerbRedeploy, fleet.VerbScale,
		fleet.VerbRollback, fleet.VerbDelete, fleet.VerbForget,
	} {
		post("/workloads/{id}/"+string(verb), smallBody, s.act(verb))
	}
	get("/workloads/{id}/delete", s.askDeleteWorkload)

	get("/operations", s.listOperations)
	get("/operations/{id}", s.showOperation)
	stream("/operations/{id}/stream", s.streamOperation)
	post("/operations/{id}/cancel", smallBody, s.cancelOperation)
	return r
}

// guard lets h answer those whom the table lets in. timeout 0 is a stream.
func (s *Server) guard(route string, body int64, timeout time.Duration, h handler) http.HandlerFunc {
	least, known := access[route]
	return func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, body)
		if timeout > 0 {
			ctx, cancel := context.WithTimeout(r.Context(), timeout)
			defer cancel()
			r = r.WithContext(ctx)
			defer s.Registry.ServePage()()
		}
		r, err := s.admit(w, r, known, least)
		if err == nil {
			err = s.admitAgain(r, route, least)
		}
		if err == nil && !oneSpelling(route, chi.URLParam(r, "id")) {
			err = notFound(w, r)
		}
		if err == nil {
			err = h(w, r)
		}
		if err != nil {
			s.fail(w, r, err)
		}
	}
}

// oneSpelling reports whether an id in a route is spelled as it is stored: the
// database takes other spellings of a UUID too, whose pages no bell would reach,
// and fails on what is no text.
func oneSpelling(route, id string) bool {
	if strings.Contains(route, "/workloads/{id}") || strings.Contains(route, "/operations/{id}") {
		parsed, err := uuid.Parse(id)
		return err == nil && parsed.String() == id
	}
	return utf8.ValidString(id) && !strings.ContainsRune(id, 0)
}

func notFound(http.ResponseWriter, *http.Request) error {
	return fleet.NotFound("There is no such page.")
}

// methodNotAllowed shows whoever comes to the address of a form, by reloading what
// answered it, say, the way to the page that has the form.
func methodNotAllowed(w http.ResponseWriter, r *http.Request) error {
	e := &statusError{status: http.StatusMethodNotAllowed, title: "Not possible", message: "This address does not take a " + r.Method + "."}
	routes, form := chi.RouteContext(r.Context()).Routes, chi.NewRouteContext()
	if routes.Match(chi.NewRouteContext(), http.MethodGet, r.URL.Path) {
		w.Header().Add("Allow", "GET, HEAD")
	}
	takesForms := routes.Match(form, http.MethodPost, r.URL.Path)
	if takesForms {
		w.Header().Add("Allow", http.MethodPost)
	}
	if r.Method == http.MethodGet && takesForms {
		e.message, e.remedy = "This is no page: a form is sent to this address.", "Send it from the page that has it."
		e.links = []views.Option{{Value: pageOf(r.URL.Path, form.RoutePattern()), Label: "Open that page"}}
	}
	return e
}
