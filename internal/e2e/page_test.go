package e2e

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/html"
)

// page is an answer of Portolan.
type page struct {
	request string // method and path, for messages
	status  int
	header  http.Header
	body    string
	root    *html.Node
}

func parsePage(request string, status int, header http.Header, body string) *page {
	root, err := html.Parse(strings.NewReader(body))
	if err != nil {
		root = &html.Node{Type: html.DocumentNode} // html.Parse fails only when its reader does
	}
	return &page{request: request, status: status, header: header, body: body, root: root}
}

// location is where a redirect leads, without its host.
func (p *page) location() string {
	u, err := url.Parse(p.header.Get("Location"))
	if err != nil {
		return ""
	}
	return u.RequestURI()
}

// with returns the elements that have the attribute and, when one is given,
// that value of it.
func (p *page) with(attribute string, value ...string) []*html.Node {
	return elementsWith(p.root, attribute, value...)
}

// one returns the only element with the attribute, or nil when there is none
// or more than one.
func (p *page) one(attribute string, value ...string) *html.Node {
	found := p.with(attribute, value...)
	if len(found) != 1 {
		return nil
	}
	return found[0]
}

// has reports whether there is an element with the attribute of that value.
func (p *page) has(attribute string, value ...string) bool {
	return len(p.with(attribute, value...)) > 0
}

// text is what a person reads, white space squeezed.
func (p *page) text() string { return textOf(p.root) }

// says reports whether the page's text contains every one of the words, in
// whatever case.
func (p *page) says(words ...string) bool {
	text := strings.ToLower(p.text())
	return !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(text, strings.ToLower(w)) })
}

func elementsWith(root *html.Node, attribute string, value ...string) []*html.Node {
	var found []*html.Node
	if root == nil {
		return nil
	}
	for n := range root.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		for _, a := range n.Attr {
			if a.Key == attribute && (len(value) == 0 || a.Val == value[0]) {
				found = append(found, n)
			}
		}
	}
	return found
}

// attr returns the value of an attribute, or "" when n is nil or has none.
func attr(n *html.Node, name string) string {
	v, _ := lookup(n, name)
	return v
}

func lookup(n *html.Node, name string) (string, bool) {
	if n == nil {
		return "", false
	}
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val, true
		}
	}
	return "", false
}

func textOf(root *html.Node) string {
	var b strings.Builder
	var walk func(n *html.Node)
	walk = func(n *html.Node) {
		switch {
		case n.Type == html.TextNode:
			b.WriteString(n.Data + " ")
		case n.Type == html.ElementNode && slices.Contains([]string{"script", "style", "head", "template"}, n.Data):
			return
		}
		for c := n.FirstChild; c != nil; c = c.NextSibling {
			walk(c)
		}
	}
	if root != nil {
		walk(root)
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

// form returns the fields of the form that posts to action, as a browser
// without JavaScript would send them, and whether there is such a form.
func (p *page) form(action string) (fields, bool) {
	for n := range p.root.Descendants() {
		if n.Type == html.ElementNode && n.Data == "form" && attr(n, "action") == action && strings.EqualFold(attr(n, "method"), "post") {
			return fieldsOf(n), true
		}
	}
	return nil, false
}

func fieldsOf(form *html.Node) fields {
	out := fields{}
	for n := range form.Descendants() {
		name, ok := lookup(n, "name")
		if n.Type != html.ElementNode || !ok {
			continue
		}
		if _, off := lookup(n, "disabled"); off {
			continue
		}
		switch n.Data {
		case "input":
			_, checked := lookup(n, "checked")
			switch attr(n, "type") {
			case "checkbox", "radio":
				if checked {
					out[name] = attr(n, "value")
				}
			case "file", "submit", "button", "image":
			default:
				out[name] = attr(n, "value")
			}
		case "textarea":
			out[name] = strings.TrimPrefix(rawText(n), "\n")
		case "select":
			out[name] = selected(n)
		}
	}
	return out
}

// selected is the value of a list's chosen option, which is the first one
// unless another is marked.
func selected(list *html.Node) string {
	chosen := ""
	for i, option := range elements(list, "option") {
		value, ok := lookup(option, "value")
		if !ok {
			value = textOf(option)
		}
		if _, marked := lookup(option, "selected"); marked || i == 0 {
			chosen = value
		}
	}
	return chosen
}

func elements(root *html.Node, tag string) []*html.Node {
	var found []*html.Node
	if root == nil {
		return nil
	}
	for n := range root.Descendants() {
		if n.Type == html.ElementNode && n.Data == tag {
			found = append(found, n)
		}
	}
	return found
}

func rawText(n *html.Node) string {
	var b strings.Builder
	for d := range n.Descendants() {
		if d.Type == html.TextNode {
			b.WriteString(d.Data)
		}
	}
	return b.String()
}

// problem returns the text of the error beside a field, or "": what describes
// the field, or the group that it is one of, and is marked as wrong.
func (p *page) problem(field string) string {
	for _, n := range p.with("name", field) {
		for ; n != nil && n.Data != "form"; n = n.Parent {
			for id := range strings.FieldsSeq(attr(n, "aria-describedby")) {
				if e := p.one("id", id); e != nil && strings.Contains(attr(e, "class"), "error") {
					return textOf(e)
				}
			}
		}
	}
	return ""
}
