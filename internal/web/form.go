package web

import (
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"portolan/internal/fleet"
	"portolan/views/ui"
)

// neverShown are fields whose values never go back into a page.
var neverShown = append([]string{"kubeconfig", "secret_env", "password", "new_password", "token", "cloud_secret"}, fleet.CloudSecretFields...)

// readForm returns the fields of a POST, each once. A file takes the place of an
// empty kubeconfig.
func readForm(r *http.Request) (map[string]string, error) {
	err := parseForm(r)
	if err != nil {
		return nil, err
	}
	form := map[string]string{}
	for name, values := range r.PostForm {
		if len(values) > 0 {
			form[name] = strings.ReplaceAll(values[0], "\r\n", "\n")
		}
	}
	if r.MultipartForm == nil {
		return form, nil
	}
	defer func() { _ = r.MultipartForm.RemoveAll() }() // the server does so too
	// Either is what a script may call it; the page reads the file itself.
	for _, field := range []string{"kubeconfig_file", "kubeconfig"} {
		if files := r.MultipartForm.File[field]; len(files) > 0 && strings.TrimSpace(form["kubeconfig"]) == "" {
			if form["kubeconfig"], err = readFile(files[0]); err != nil {
				return nil, err
			}
		}
	}
	return form, nil
}

// parseForm waits for the whole body of a POST. Only its first error counts: what
// was parsed is kept in the request, and not parsed again.
func parseForm(r *http.Request) error {
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if kind != "application/x-www-form-urlencoded" && kind != "multipart/form-data" && r.PostForm == nil {
		// To ParseForm all of these would be an empty form, and only no body is one.
		if n, err := r.Body.Read(make([]byte, 1)); n > 0 || !errors.Is(err, io.EOF) {
			return notAForm(http.StatusUnsupportedMediaType)
		}
	}
	err := r.ParseForm() // ParseMultipartForm alone would hide its error
	if err == nil && kind == "multipart/form-data" && r.MultipartForm == nil {
		err = r.ParseMultipartForm(clusterBody)
	}
	if err == nil {
		return nil
	}
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return tooLarge
	}
	return notAForm(http.StatusBadRequest)
}

func notAForm(status int) error {
	return &statusError{
		status: status, title: "Not readable", message: "The form could not be read.",
		remedy: "Send it as application/x-www-form-urlencoded or multipart/form-data.",
	}
}

func readFile(h *multipart.FileHeader) (string, error) {
	f, err := h.Open()
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	return string(b), err
}

// shownForm is a form as a page shows it again: without what is secret, and
// with the problems beside their fields.
func shownForm(fields map[string]string, err error) ui.Form {
	f := ui.Form{Values: url.Values{}, Errors: map[string]string{}}
	for name, value := range fields {
		f.Values[name] = []string{strings.ToValidUTF8(value, "\uFFFD")}
	}
	for _, name := range neverShown {
		delete(f.Values, name)
	}
	var e *fleet.Error
	if errors.As(err, &e) {
		for name, text := range e.Problems {
			f.Errors[name] = text
		}
		if e.Code != fleet.CodeInvalid {
			f.Error = strings.TrimSpace(e.Message + " " + e.Remedy)
		}
	}
	return f
}

// typedSecrets are the secret fields that mean something when they are blank:
// what is stored stays, or there is none. They are the ones that were filled in,
// of the choices that were taken.
func typedSecrets(sent map[string]string) []string {
	var out []string
	filled := func(name string) bool { return strings.TrimSpace(sent[name]) != "" }
	if filled("kubeconfig") && sent["credential_mode"] == string(fleet.CredentialEncrypted) {
		out = append(out, "kubeconfig")
	}
	for _, name := range fleet.CloudSecretFields {
		if filled(name) && sent["cloud_credential"] == "sealed" {
			out = append(out, name)
		}
	}
	if filled("secret_env") {
		out = append(out, "secret_env")
	}
	return out
}

// enterAgain says at each secret that was sent that it has to be typed once
// more: the page shows it blank, and to send it so would be taken for an answer.
// Of the fields in stored there is something that a blank one keeps.
func enterAgain(f *ui.Form, sent map[string]string, stored ...string) {
	good := f.Error == "" && len(f.Errors) == 0
	for _, name := range typedSecrets(sent) {
		text := "What you entered is not shown again, for safety: enter it once more."
		if slices.Contains(stored, name) {
			text = "What you entered is not shown again, for safety: enter it once more, or leave this blank to keep what is stored."
		}
		if wrong := f.Errors[name]; wrong != "" {
			text = strings.TrimSuffix(wrong, ".") + ". " + text
		}
		if f.Errors == nil {
			f.Errors = map[string]string{}
		}
		f.Errors[name] = text
	}
	f.Again = good && len(f.Errors) > 0
}

// formStatus is the status of a form that is shown again because of err.
func formStatus(err error) int { return codes[fleet.CodeOf(err)].status }

// formAgain reports whether err is one that its form can show.
func formAgain(err error) bool {
	switch fleet.CodeOf(err) {
	case fleet.CodeInvalid, fleet.CodeConflict, fleet.CodeUnavailable:
		return true
	}
	return false
}
