package web

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"runtime/debug"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
)

// policy is the content security policy: nothing but our own files, no inline
// style or script.
const policy = "default-src 'self'; base-uri 'none'; object-src 'none'; form-action 'self'; frame-ancestors 'none'"

// securityHeaders tells browsers what no page of ours may do.
func (s *Server) securityHeaders(next http.Handler) http.Handler {
	secure := Secure(s.PublicURL)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
		if secure || s.byTLS(r) {
			h.Set("Strict-Transport-Security", "max-age=31536000") // a year
		}
		next.ServeHTTP(w, r)
	})
}

// sameOrigin refuses what other sites make a browser send: writes, and streams
// too, which CrossOriginProtection takes for harmless reads. Clients that send
// neither Sec-Fetch-Site nor Origin are no browsers and are let in.
func (s *Server) sameOrigin(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked := r
		if strings.HasSuffix(r.URL.Path, "/stream") {
			asked = new(*r)
			asked.Method = http.MethodPost
		}
		if err := s.csrf.Check(asked); err != nil {
			s.fail(w, r, &statusError{
				status: http.StatusForbidden, title: "Refused", message: "This request came from another site.",
				remedy: "Open Portolan itself and try again there.",
			})
			return
		}
		next.ServeHTTP(w, r)
	})
}

// instrument gives the request its id and its client's address, counts and
// times it, and writes one line of the access log.
func (s *Server) instrument(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begun := time.Now()
		v := &visit{id: strings.ToLower(rand.Text()[:12]), address: s.clientAddress(r)}
		rw := &responseWriter{ResponseWriter: w, status: http.StatusOK}
		w.Header().Set("X-Request-Id", v.id)
		r = r.WithContext(context.WithValue(r.Context(), visitKey{}, v))
		next.ServeHTTP(rw, r)

		took := time.Since(begun)
		pattern := chi.RouteContext(r.Context()).RoutePattern()
		s.metrics.request(r.Method, pattern, rw.status, took)
		level := slog.LevelDebug
		if r.Method != http.MethodGet && r.Method != http.MethodHead || rw.status >= 500 {
			level = slog.LevelInfo
		}
		s.Logger.LogAttrs(r.Context(), level, "request",
			slog.String("id", v.id), slog.String("method", r.Method), slog.String("path", clip(r.URL.Path, 200)),
			slog.Int("status", rw.status), slog.Duration("took", took), slog.Int64("bytes", rw.written),
			slog.String("address", v.address), slog.String("user", v.user.Email))
	})
}

// recoverPanic turns a panic into an internal error.
func (s *Server) recoverPanic(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if p := recover(); p != nil {
				if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
					panic(p)
				}
				s.fail(w, r, fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
			}
		}()
		next.ServeHTTP(w, r)
	})
}

// clientAddress is the nearest address of X-Forwarded-For that is not one of
// our own proxies; without a trusted proxy, the peer's.
func (s *Server) clientAddress(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0 && s.trusts(host); i-- {
		hop, err := forwarder(hops[i])
		if err != nil {
			break
		}
		host = hop.Unmap().String()
	}
	return host
}

// forwarder reads an entry of X-Forwarded-For: an address, behind which some
// proxies write the port (Azure Application Gateway, or a load balancer of AWS
// that is told to keep it). An IPv6 address with one stands in brackets.
func forwarder(entry string) (netip.Addr, error) {
	entry = strings.TrimSpace(entry)
	if at, err := netip.ParseAddrPort(entry); err == nil {
		return at.Addr(), nil
	}
	if inner, ok := strings.CutPrefix(entry, "["); ok {
		entry = strings.TrimSuffix(inner, "]")
	}
	return netip.ParseAddr(entry)
}

// byTLS reports whether the browser's request came by TLS: to us, or to a proxy
// that we trust and that says so.
func (s *Server) byTLS(r *http.Request) bool {
	if r.TLS != nil {
		return true
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil || !s.trusts(host) {
		return false
	}
	said := r.Header.Values("X-Forwarded-Proto")
	if len(said) == 0 {
		return false
	}
	hops := strings.Split(said[len(said)-1], ",") // the nearest proxy speaks last
	return strings.EqualFold(strings.TrimSpace(hops[len(hops)-1]), "https")
}

// address returns how browsers reach a path of ours: by the public URL, or as
// this request did.
func (s *Server) address(r *http.Request, path string) string {
	switch {
	case s.PublicURL != "":
		return strings.TrimRight(s.PublicURL, "/") + path
	case s.byTLS(r):
		return "https://" + r.Host + path
	default:
		return "http://" + r.Host + path
	}
}

func (s *Server) trusts(host string) bool {
	a, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	for _, p := range s.TrustedProxies {
		if p.Contains(a.Unmap()) {
			return true
		}
	}
	return false
}

// responseWriter remembers what was answered.
type responseWriter struct {
	http.ResponseWriter
	status  int
	begun   bool
	written int64
}

func (w *responseWriter) WriteHeader(status int) {
	if !w.begun && status >= 200 {
		w.status, w.begun = status, true
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *responseWriter) Write(b []byte) (int, error) {
	w.begun = true
	n, err := w.ResponseWriter.Write(b)
	w.written += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController reach the connection.
func (w *responseWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// hasBegun reports whether it is too late for another answer.
func hasBegun(w http.ResponseWriter) bool {
	rw, ok := w.(*responseWriter)
	return ok && rw.begun
}

func originOf(address string) (string, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return "", fmt.Errorf("the public URL %q is not an http or https address", address)
	}
	if strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return "", fmt.Errorf("the public URL %q must be a scheme and a host only: Portolan needs a host name of its own", address)
	}
	return u.Scheme + "://" + u.Host, nil
}

// Secure reports whether browsers reach the public URL by TLS, so that the
// session cookie may be kept from plain http. Without one it is not: the
// address may be http on the loopback, where a Secure cookie would be dropped.
func Secure(publicURL string) bool { return strings.HasPrefix(strings.ToLower(publicURL), "https://") }

// clip keeps what a client chose from filling the log.
func clip(s string, limit int) string {
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "") + "…"
	}
	return s
}
