package operate

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"portolan/internal/fleet"
)

// difference is what an operation changes, by form field: before and after. It
// goes into the record, so it holds no secret, and nothing where people are
// known to keep secrets.
type difference map[string][2]string

func (d difference) note(field string, before, after any) {
	if b, a := fmt.Sprint(before), fmt.Sprint(after); b != a {
		d[field] = [2]string{b, a}
	}
}

// differ returns the fields in which two specs differ. Of environment, files
// and secrets it only says that they have changed.
func differ(before, after fleet.Spec, typed map[string]string) difference {
	d := difference{}
	a, b := FormOf(before), FormOf(after)
	fields := maps.Clone(a)
	maps.Copy(fields, b)
	for field := range fields {
		d.note(field, a[field], b[field])
		if _, ok := d[field]; ok && (field == "env" || strings.HasPrefix(field, "file_content_")) {
			d[field] = [2]string{"", "changed"}
		}
	}
	if len(typed) > 0 {
		d["secret_env"] = [2]string{"", "new values of " + strings.Join(slices.Sorted(maps.Keys(typed)), ", ")}
	}
	return d
}
