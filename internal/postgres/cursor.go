package postgres

import (
	"encoding/base64"
	"strconv"
	"strings"

	"portolan/internal/fleet"
)

// Pages go by key: a cursor names the last row of the page before, so that a
// page far down costs what the first one does and rows that come and go
// neither repeat nor hide others.

const (
	defaultPageLimit = 50
	maxPageLimit     = 200
)

func pageLimit(limit int) int {
	if limit <= 0 {
		return defaultPageLimit
	}
	return min(limit, maxPageLimit)
}

var errCursor = &fleet.Error{
	Code: fleet.CodeInvalid, Message: "This page of the list cannot be found.", Remedy: "Go to its first page.",
}

// formatNumber is the cursor of a list that is ordered by a number.
func formatNumber(n int64) string { return strconv.FormatInt(n, 10) }

// numberCursor reads such a cursor; "" is 0, the first page.
func numberCursor(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n <= 0 {
		return 0, errCursor
	}
	return n, nil
}

// formatPair is the cursor of a list that is ordered by a text and an id.
func formatPair(text, id string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(id + "\x00" + text))
}

// pairCursor reads such a cursor; "" is the first page.
func pairCursor(s string) (text, id string, err error) {
	if s == "" {
		return "", "", nil
	}
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return "", "", errCursor
	}
	id, text, ok := strings.Cut(string(b), "\x00")
	if !ok || id == "" || strings.ContainsRune(text, 0) || !isText(text) || !isText(id) {
		return "", "", errCursor
	}
	return text, id, nil
}

// isText reports whether PostgreSQL takes s as text.
func isText(s string) bool { return strings.ToValidUTF8(s, "") == s && !strings.ContainsRune(s, 0) }

// likePattern matches what contains query, whatever signs it holds; "" = all.
func likePattern(query string) string {
	query = strings.ReplaceAll(strings.ToValidUTF8(strings.TrimSpace(query), ""), "\x00", "")
	if query == "" {
		return ""
	}
	return "%" + likeLiteral(query) + "%"
}

// likeBeginning matches what begins with text, whatever signs it holds.
func likeBeginning(text string) string { return likeLiteral(storable(text)) + "%" }

func likeLiteral(text string) string {
	return strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(text)
}
