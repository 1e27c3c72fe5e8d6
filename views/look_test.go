package views

import (
	"strings"
	"testing"

	"github.com/a-h/templ"
)

// Every page, with everything on it, is accessible, wide in light and narrow in
// dark, as far as a program can judge that.
func TestPagesAreAccessible(t *testing.T) {
	t.Parallel()
	pages := filled("plain")
	b := browse(t, pages, nil)
	for name := range pages {
		b.wide(1280)
		b.scheme("light")
		b.open("/" + strings.ReplaceAll(name, " ", "-") + "/")
		eval[bool](b, axe+";true")
		b.check(name)
		b.wide(320)
		b.scheme("dark")
		b.check(name + ", narrow and dark")
	}
}

// However long what people and clusters call things, no page scrolls sideways,
// down to a width of 320 pixels.
func TestPagesFitTheirWindow(t *testing.T) {
	t.Parallel()
	pages := filled(strings.Repeat("long", 30))
	b := browse(t, pages, nil)
	for name := range pages {
		b.wide(1280)
		b.open("/" + strings.ReplaceAll(name, " ", "-") + "/")
		for _, width := range []int64{1280, 320} {
			b.wide(width)
			if over := eval[[]string](b, overhanging); len(over) > 0 {
				t.Errorf("%s, %d px wide, scrolls sideways because of %s", name, width, strings.Join(over, ", "))
			}
		}
	}
}

// overhanging names what makes the page wider than its window; what a part of
// the page scrolls or cuts off for itself does not.
const overhanging = `(() => {
	const root = document.documentElement, found = [];
	if (root.scrollWidth <= root.clientWidth) return found;
	for (const el of document.querySelectorAll("body *")) {
		if (el.getBoundingClientRect().right > root.clientWidth + 1 && !el.closest(".table-wrap, pre")) {
			found.push(el.localName + (el.className ? "." + el.className : ""));
		}
	}
	return found.length ? found.slice(-4) : ["a text that its element does not hold"];
})()`

// In a narrow window all tabs of a workload are in sight, and where somebody
// else's values are compared with one's own no name is broken into pieces.
func TestANarrowPageCutsNothingOff(t *testing.T) {
	t.Parallel()
	edit := WorkloadEdit{ID: "w1", Name: "web", Changes: []Change{
		{Field: "service_annotations", Theirs: "example.com/a=1\nexample.com/b=2", Yours: "example.com/a=2"}, {Field: "image", Theirs: "registry.example.com/web:2", Yours: "registry.example.com/web:1"},
	}}
	w := Workload{ID: "w1", Name: "web", Phase: "running", Releases: make([]Release, 12)}
	b := browse(t, map[string]templ.Component{"workload": WorkloadPage(admin(), w), "edit": WorkloadEditPage(admin(), edit)}, nil)
	for _, width := range []int64{360, 320} {
		b.wide(width)
		b.open("/workload/")
		b.sees(".tab-list")
		if cut := eval[int](b, `(() => { const l = document.querySelector(".tab-list"); return l.scrollWidth - l.clientWidth; })()`); cut > 0 {
			t.Errorf("%d px wide, %d px of the tabs are cut off", width, cut)
		}
		b.open("/edit/")
		if broken := eval[[]string](b, `[...document.querySelectorAll(".compare tbody th")].filter((th) => {
			const text = document.createRange();
			text.selectNodeContents(th);
			return text.getClientRects().length > 1;
		}).map((th) => th.textContent)`); len(broken) > 0 {
			t.Errorf("%d px wide, broken into pieces: %v", width, broken)
		}
	}
}

// What leads on from a context that cannot be registered as it is looks like a link.
func TestTheWayOutOfARefusedContextIsSeen(t *testing.T) {
	t.Parallel()
	b := browse(t, map[string]templ.Component{"found": FoundPage(admin(), FoundForm{Rows: []FoundRow{
		{Path: "a", Context: "a", ID: "a", Refusal: "It logs a person in.", Register: "/x"},
	}})}, nil)
	b.open("/found/")
	if line := eval[string](b, `getComputedStyle(document.querySelector("a[href='/x']")).textDecorationLine`); line != "underline" {
		t.Errorf("it is drawn with %q", line)
	}
}

// Where a time of day stands without its day, its zone is said, as nobody's own is
// meant.
func TestTimesOfDaySayTheirZone(t *testing.T) {
	t.Parallel()
	pages := filled("plain")
	for name, css := range map[string]string{"operation": "#operation-events .card-head", "logs": "[data-log-stamps]"} {
		b := browse(t, map[string]templ.Component{"page": pages[name]}, nil)
		b.open("/page/")
		if says := eval[string](b, `(() => { const e = document.querySelector("`+css+`"); return e.innerText + " " + e.title; })()`); !strings.Contains(says, "UTC") {
			t.Errorf("%s: %q", name, says)
		}
	}
}
