package web

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"portolan/internal/fleet"
)

// FuzzReadForm decodes the body of any form, in each of its encodings, and what
// the use cases then read of it.
func FuzzReadForm(f *testing.F) {
	const multi = "multipart/form-data; boundary=x"
	f.Add("application/x-www-form-urlencoded", "id=k3s&label=a%20b&enabled=off&kubeconfig=%00", "")
	f.Add("application/x-www-form-urlencoded", "a=1&a=2;b=%zz&=", "label=from+the+address")
	f.Add(multi, "--x\r\nContent-Disposition: form-data; name=\"label\"\r\n\r\none\r\n--x\r\nContent-Disposition: form-data; name=\"kubeconfig_file\"; filename=\"../../k\"\r\n\r\nkind: Config\r\n--x--\r\n", "")
	f.Add(multi, "--x\r\n", "")
	f.Add("text/plain", "label=x", "label=y")
	container, _ := fleet.RuntimeByID("container")
	f.Fuzz(func(t *testing.T, kind, body, query string) {
		r := httptest.NewRequest(http.MethodPost, "/admin/clusters", strings.NewReader(body))
		r.URL.RawQuery = query
		r.Header.Set("Content-Type", kind)
		r.Body = http.MaxBytesReader(httptest.NewRecorder(), r.Body, smallBody)
		form, err := readClusterForm(r)
		if err != nil {
			var known *statusError
			var large *http.MaxBytesError
			if !errors.As(err, &known) && !errors.As(err, &large) {
				t.Errorf("an error that is nobody's fault: %v", err)
			}
			return
		}
		if address, err := url.ParseQuery(query); err == nil && body == "" && len(address) > 0 && len(form) > 1 {
			t.Errorf("read from the address: %v", form)
		}
		for _, err := range []error{second(form.Parse()), last(fleet.WorkloadForm(form).Parse(container))} {
			if err != nil && fleet.CodeOf(err) != fleet.CodeInvalid {
				t.Errorf("unexpected error %v", err)
			}
			shown := shownForm(form, err)
			for _, secret := range neverShown {
				if shown.Get(secret) != "" {
					t.Errorf("%s would be shown again", secret)
				}
			}
		}
	})
}

func second(_ fleet.Cluster, err error) error { return err }

func last(_ string, _ fleet.Spec, _ map[string]string, err error) error { return err }

// FuzzQueries reads what addresses ask for: the choice of a log, and the filter
// of the record.
func FuzzQueries(f *testing.F) {
	for _, seed := range []string{"tail=10&since=10m&previous=true&container=main&pod=web-1", "tail=-1", "since=9999999h", "pod=../x&container=%00", "from=2026-01-01&to=2026-02-30&outcome=ok&after=x", "%zz"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, query string) {
		r := httptest.NewRequest(http.MethodGet, "/workloads/x/logs/stream", nil)
		r.URL.RawQuery = query
		choice, since, err := readLogChoice(r)
		if err != nil && fleet.CodeOf(err) != fleet.CodeInvalid {
			t.Errorf("unexpected error %v", err)
		}
		if err == nil && (choice.tail < 0 || len(choice.pod) > 253 || strings.ContainsAny(choice.pod+choice.container, "/\x00 ") || since.IsZero() && r.URL.Query().Get("since") != "") {
			t.Errorf("accepted %+v, %v", choice, since)
		}
		filter, problems := auditFilter(r.URL.Query())
		if len(problems) == 0 && !filter.To.IsZero() && !filter.From.IsZero() && len(filter.Actor) > 4*300 {
			t.Errorf("accepted %+v", filter)
		}
	})
}
