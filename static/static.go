// Package static serves the style sheet, the script, the fonts and the icon.
//
// They are embedded. At start the style sheets become one file and the scripts
// another, and every file is named after its content, so that a browser may keep
// it for ever. vendor holds the parts that others wrote, unchanged, with their
// licences; vendor/SHA256SUMS names their versions.
package static

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"net/http"
	"path"
	"strconv"
	"strings"
)

//go:embed css js vendor icon.svg
var files embed.FS

// Prefix is the path under which Handler expects to be asked.
const Prefix = "/static/"

// The order is that of the cascade and of dependence.
var (
	styles = []string{
		"vendor/oat/oat.min.css",
		"css/tokens.css", "css/base.css", "css/frame.css", "css/parts.css", "css/forms.css", "css/pages.css", "css/logs.css",
	}
	scripts = []string{
		"js/theme.js",
		"vendor/htmx/htmx.min.js", "vendor/htmx/hx-sse.min.js",
		"js/page.js", "js/keys.js", "js/line.js", "js/live.js", "js/forms.js", "js/drafts.js", "js/tabs.js", "js/ansi.js", "js/logs.js",
	}
)

const (
	sansFile = "vendor/inter/inter-latin-wght-normal.woff2"
	monoFile = "vendor/jetbrains-mono/jetbrains-mono-latin-wght-normal.woff2"
)

// Assets are the files as they are served.
type Assets struct {
	css, js, sans, mono, icon string // addresses
	byName                    map[string]asset
}

type asset struct {
	kind       string
	body, gzip []byte // gzip is nil where it saves nothing
}

// New builds the files. It fails only if the program was built without one.
func New() (*Assets, error) {
	a := &Assets{byName: map[string]asset{}}
	var err error
	if a.sans, err = a.file("inter", "font/woff2", sansFile); err != nil {
		return nil, err
	}
	if a.mono, err = a.file("mono", "font/woff2", monoFile); err != nil {
		return nil, err
	}
	if a.icon, err = a.file("icon", "image/svg+xml", "icon.svg"); err != nil {
		return nil, err
	}
	css, err := join(styles)
	if err != nil {
		return nil, err
	}
	css = bytes.ReplaceAll(css, []byte("/font/sans"), []byte(a.sans))
	css = bytes.ReplaceAll(css, []byte("/font/mono"), []byte(a.mono))
	if a.css, err = a.add("app", ".css", "text/css; charset=utf-8", css); err != nil {
		return nil, err
	}
	js, err := join(scripts)
	if err != nil {
		return nil, err
	}
	a.js, err = a.add("app", ".js", "text/javascript; charset=utf-8", js)
	return a, err
}

// CSS is the address of the style sheet.
func (a *Assets) CSS() string { return a.css }

// JS is the address of the script.
func (a *Assets) JS() string { return a.js }

// Sans is the address of the typeface of the text.
func (a *Assets) Sans() string { return a.sans }

// Mono is the address of the monospaced typeface.
func (a *Assets) Mono() string { return a.mono }

// Icon is the address of the icon of the site.
func (a *Assets) Icon() string { return a.icon }

// Handler serves the files under Prefix. An address never changes its content,
// so it may be kept for a year, the longest that RFC 9111 caches honour.
func (a *Assets) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f, ok := a.byName[strings.TrimPrefix(r.URL.Path, Prefix)]
		if !ok {
			http.NotFound(w, r)
			return
		}
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
			return
		}
		h := w.Header()
		h.Set("Content-Type", f.kind)
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
		h.Set("X-Content-Type-Options", "nosniff")
		body := f.body
		if f.gzip != nil {
			h.Set("Vary", "Accept-Encoding")
			if acceptsGzip(r.Header.Get("Accept-Encoding")) {
				h.Set("Content-Encoding", "gzip")
				body = f.gzip
			}
		}
		h.Set("Content-Length", strconv.Itoa(len(body)))
		if r.Method == http.MethodGet {
			w.Write(body) // an error is the client's going away
		}
	})
}

func acceptsGzip(header string) bool {
	for part := range strings.SplitSeq(header, ",") {
		name, weight, _ := strings.Cut(part, ";")
		if strings.TrimSpace(name) != "gzip" {
			continue
		}
		q, found := strings.CutPrefix(strings.TrimSpace(weight), "q=")
		v, err := strconv.ParseFloat(q, 64)
		return !found || err == nil && v > 0
	}
	return false
}

func (a *Assets) file(name, kind, from string) (string, error) {
	body, err := files.ReadFile(from)
	if err != nil {
		return "", fmt.Errorf("static: %w", err)
	}
	return a.add(name, path.Ext(from), kind, body)
}

func (a *Assets) add(name, ext, kind string, body []byte) (string, error) {
	sum := sha256.Sum256(body)
	name += "-" + base64.RawURLEncoding.EncodeToString(sum[:9]) + ext
	f := asset{kind: kind, body: body}
	if ext != ".woff2" { // compressed already
		var buf bytes.Buffer
		z := gzip.NewWriter(&buf)
		if _, err := z.Write(body); err != nil {
			return "", fmt.Errorf("static: %s: %w", name, err)
		}
		if err := z.Close(); err != nil {
			return "", fmt.Errorf("static: %s: %w", name, err)
		}
		f.gzip = buf.Bytes()
	}
	a.byName[name] = f
	return Prefix + name, nil
}

func join(names []string) ([]byte, error) {
	var all []byte
	for _, name := range names {
		body, err := files.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("static: %w", err)
		}
		all = append(append(all, body...), '\n')
	}
	return all, nil
}
