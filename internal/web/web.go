// Package web serves Portolan to browsers: pages, forms and live streams.
//
// A handler decodes, calls a use case, fills a view-model and renders it; it
// returns an error instead of writing one, and error.go alone turns errors into
// responses. Who may call what stands in the table of access.go; a route that
// is not in it is refused.
package web

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"portolan/internal/auth"
	"portolan/internal/fleet"
	"portolan/internal/operate"
	"portolan/internal/registry"
	"portolan/static"
	"portolan/views"
)

// Options are what a Server works with.
type Options struct {
	// Context ends the streams when it ends: a server that shuts down must not
	// wait for pages that stay open.
	Context  context.Context
	Logger   *slog.Logger
	Auth     *auth.Service
	Registry *registry.Registry
	Operator *operate.Operator
	Reads    Reads
	Logs     Logs
	Bell     Bell
	Assets   *static.Assets

	// PublicURL is how browsers reach Portolan, such as https://portolan.example;
	// "" = as the request says.
	PublicURL string
	// TrustedProxies are those whose X-Forwarded-For and X-Forwarded-Proto are
	// believed.
	TrustedProxies []netip.Prefix
	// Retention is how long what pages show of the past is kept.
	Retention fleet.Retention
	// SealingOff says why kubeconfigs and secret values cannot be stored; "" = they can.
	SealingOff string
	// MaxStreams bounds the streams that one person has open here; 0 = 100.
	MaxStreams int
	// Recheck is how old the answer may be to whether a reader may read when a
	// stream or an export sends the next of it; 0 = 5 s. What is sent may then
	// take as long as Patience, so that both together are the longest that
	// anything reaches somebody who has lost the right to it. Ping is how often
	// a silent stream shows that it lives; 0 = 12 s.
	Recheck, Ping time.Duration
	// Patience is how long a reader of a stream or an export may take nothing
	// of what is sent before it is cut off; 0 = 10 s.
	Patience time.Duration
}

// Server answers HTTP requests.
type Server struct {
	Options
	assets  views.Assets
	csrf    *http.CrossOriginProtection
	streams *streamLimit
	metrics *metrics
	router  http.Handler
}

// New returns a Server, or an error when PublicURL is none.
func New(o Options) (*Server, error) {
	if o.Context == nil {
		o.Context = context.Background()
	}
	if o.MaxStreams == 0 {
		o.MaxStreams = 100
	}
	if o.Recheck == 0 {
		o.Recheck = 5 * time.Second
	}
	if o.Ping == 0 {
		o.Ping = 12 * time.Second
	}
	if o.Patience == 0 {
		o.Patience = 10 * time.Second
	}
	s := &Server{
		Options: o,
		assets: views.Assets{
			CSS: o.Assets.CSS(), JS: o.Assets.JS(), Sans: o.Assets.Sans(), Mono: o.Assets.Mono(), Icon: o.Assets.Icon(),
		},
		csrf:    http.NewCrossOriginProtection(),
		streams: newStreamLimit(o.MaxStreams),
		metrics: newMetrics(o.Reads),
	}
	if o.PublicURL != "" {
		origin, err := originOf(o.PublicURL)
		if err != nil {
			return nil, err
		}
		if err := s.csrf.AddTrustedOrigin(origin); err != nil {
			return nil, err
		}
	}
	s.router = s.routes()
	return s, nil
}

// Handler answers everything but /metrics.
func (s *Server) Handler() http.Handler { return s.router }
