package web

import "portolan/internal/fleet"

// open marks a route that needs nobody to be signed in.
const open fleet.Role = ""

// access is the one table of who may do what: the least role for each route.
// What is not in it is refused to everybody.
var access = map[string]fleet.Role{
	"GET /healthz":  open,
	"GET /readyz":   open,
	"GET /static/*": open,
	"GET /setup":    open,
	"POST /setup":   open,
	"GET /login":    open,
	"POST /login":   open,
	"GET /invite":   open,
	"POST /invite":  open,
	"POST /logout":  fleet.RoleViewer,

	"GET /profile":                    fleet.RoleViewer,
	"POST /profile/password":          fleet.RoleViewer,
	"POST /profile/sessions/end":      fleet.RoleViewer,
	"POST /profile/sessions/{id}/end": fleet.RoleViewer,
	"GET /admin/audit":                fleet.RoleAdmin,
	"GET /admin/users":                fleet.RoleAdmin,
	"POST /admin/users/invite":        fleet.RoleAdmin,
	"POST /admin/invites/{id}/delete": fleet.RoleAdmin,
	"POST /admin/users/{id}/role":     fleet.RoleAdmin,
	"POST /admin/users/{id}/disable":  fleet.RoleAdmin,
	"POST /admin/users/{id}/enable":   fleet.RoleAdmin,
	"POST /admin/users/{id}/sessions": fleet.RoleAdmin,
	"GET /admin/users/{id}/delete":    fleet.RoleAdmin,
	"POST /admin/users/{id}/delete":   fleet.RoleAdmin,

	"GET /": fleet.RoleViewer,

	"GET /admin/clusters":                  fleet.RoleAdmin,
	"POST /admin/clusters":                 fleet.RoleAdmin,
	"GET /admin/clusters/new":              fleet.RoleAdmin,
	"GET /admin/clusters/new/found":        fleet.RoleAdmin,
	"POST /admin/clusters/new/found":       fleet.RoleAdmin,
	"POST /admin/clusters/test":            fleet.RoleAdmin,
	"POST /admin/clusters/inspect":         fleet.RoleAdmin,
	"GET /admin/clusters/{id}":             fleet.RoleAdmin,
	"POST /admin/clusters/{id}":            fleet.RoleAdmin,
	"GET /admin/clusters/{id}/edit":        fleet.RoleAdmin,
	"POST /admin/clusters/{id}/test":       fleet.RoleAdmin,
	"GET /admin/clusters/{id}/credential":  fleet.RoleAdmin,
	"POST /admin/clusters/{id}/credential": fleet.RoleAdmin,
	"POST /admin/clusters/{id}/enable":     fleet.RoleAdmin,
	"POST /admin/clusters/{id}/disable":    fleet.RoleAdmin,
	"GET /admin/clusters/{id}/delete":      fleet.RoleAdmin,
	"POST /admin/clusters/{id}/delete":     fleet.RoleAdmin,
	"GET /admin/clusters/{id}/stream":      fleet.RoleAdmin,
	"GET /admin/clusters/{id}/rbac.yaml":   fleet.RoleAdmin,

	"GET /deploy":          fleet.RoleOperator,
	"POST /deploy":         fleet.RoleOperator,
	"POST /deploy/preview": fleet.RoleOperator,

	"GET /workloads":                  fleet.RoleViewer,
	"GET /workloads/{id}":             fleet.RoleViewer,
	"GET /workloads/{id}/stream":      fleet.RoleViewer,
	"GET /workloads/{id}/logs":        fleet.RoleViewer,
	"GET /workloads/{id}/logs/stream": fleet.RoleViewer,
	"GET /workloads/{id}/edit":        fleet.RoleOperator,
	"POST /workloads/{id}/update":     fleet.RoleOperator,
	"POST /workloads/{id}/stop":       fleet.RoleOperator,
	"POST /workloads/{id}/start":      fleet.RoleOperator,
	"POST /workloads/{id}/restart":    fleet.RoleOperator,
	"POST /workloads/{id}/redeploy":   fleet.RoleOperator,
	"POST /workloads/{id}/scale":      fleet.RoleOperator,
	"POST /workloads/{id}/rollback":   fleet.RoleOperator,
	"GET /workloads/{id}/delete":      fleet.RoleOperator,
	"POST /workloads/{id}/delete":     fleet.RoleOperator,
	"POST /workloads/{id}/forget":     fleet.RoleAdmin,

	"GET /operations":              fleet.RoleViewer,
	"GET /operations/{id}":         fleet.RoleViewer,
	"GET /operations/{id}/stream":  fleet.RoleViewer,
	"POST /operations/{id}/cancel": fleet.RoleOperator,
}
