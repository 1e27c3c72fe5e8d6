package web

import (
	"strings"
	"testing"
	"time"

	"portolan/internal/fleet"
)

// TestTheClustersTilesCountWhatTheyLeadTo: credentials that end soon take no
// figure's place, and lead to no list that holds other clusters too.
func TestTheClustersTilesCountWhatTheyLeadTo(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin := b.user(fleet.RoleAdmin)
	b.target(admin, "one")
	if _, err := b.db.Pool().Exec(t.Context(), `UPDATE clusters SET credential_ends_at = $1`, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	body := admin.get("/admin/clusters").body
	for what, tile := range map[string]string{
		"untested":    `<a class="tile zero" href="/admin/clusters?status=untested"><strong>0</strong>`,
		"ending soon": `<div class="tile"><strong>1</strong>`,
	} {
		if !strings.Contains(body, tile) {
			t.Errorf("%s: no such tile", what)
		}
	}
}
