package registry

import (
	"context"
	"encoding/json"

	"portolan/internal/fleet"
)

// cloudPurpose binds sealed cloud credentials to their clusters.
const cloudPurpose = "cloud credential"

// CloudCredential returns what is sealed for the tokens of a managed cluster;
// zero where nothing is.
func (r *Registry) CloudCredential(ctx context.Context, c *fleet.Cluster) (cred fleet.CloudCredential, err error) {
	if !c.Cloud.Sealed() {
		return cred, nil
	}
	stored, err := r.Store.CloudCredential(ctx, c.ID)
	if err != nil {
		return cred, err
	}
	text, err := r.Sealer.Open(stored.KeyID, stored.Sealed, cloudPurpose, c.ID)
	if err == nil {
		err = json.Unmarshal(text, &cred)
	}
	if err != nil {
		e := fleet.Unavailable("The cloud credential of %s is sealed with the key %s and could not be opened.", c.Label, stored.KeyID)
		e.Remedy = "Check PORTOLAN_ENCRYPTION_KEYS: that key must be among them, with the bytes it had."
		e.Err = err
		return fleet.CloudCredential{}, e
	}
	return cred, nil
}

// readCloud reads the fields of the cloud credential into the cluster, sealed.
// before is the row that is edited, or nil.
func (r *Registry) readCloud(form fleet.ClusterForm, c, before *fleet.Cluster, problems fleet.Problems) error {
	var stored fleet.CloudIdentity
	if before != nil {
		stored = before.Cloud
	}
	if form["cloud_credential"] == "sealed" && !r.Sealer.CanSeal() && !stored.Sealed() {
		e := fleet.Unavailable("A cloud credential cannot be kept here: no encryption key is configured.")
		e.Remedy = "Set PORTOLAN_ENCRYPTION_KEYS and start Portolan again, or give Portolan's own machine the credential."
		return e
	}
	identity, cred := form.CloudCredential(stored, problems)
	c.Cloud = identity
	if cred == nil || len(problems) > 0 {
		return nil
	}
	text, err := json.Marshal(cred)
	if err != nil {
		return err
	}
	c.SealedCloud = &fleet.SealedCredential{}
	c.SealedCloud.KeyID, c.SealedCloud.Sealed, err = r.Sealer.Seal(text, cloudPurpose, c.ID)
	return err
}
