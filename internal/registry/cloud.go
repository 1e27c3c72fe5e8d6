package registry

import (
	"context"
	"encoding/json"
	"fmt"

	"portolan/internal/fleet"
)

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
	text, err := r.Sealer.Open(stored.KeyID, stored.Sealed, fleet.PurposeCloudCredential, c.ID)
	if err != nil {
		return cred, fleet.Unopened("The cloud credential of "+c.Label, stored.KeyID, err)
	}
	if err := json.Unmarshal(text, &cred); err != nil {
		return fleet.CloudCredential{}, fmt.Errorf("cloud credential of %s: %w", c.ID, err)
	}
	return cred, nil
}

// holdCloud refuses to send the tokens of a stored cloud credential to wherever
// another kubeconfig, or another context of it, leads: whoever changes that
// enters the secret again. One that leads to the same server as before, known
// by the same authority and over the same proxy, changes nothing about it.
func (r *Registry) holdCloud(c, before fleet.Cluster, raw []byte, problems fleet.Problems) {
	if c.SealedCloud != nil || !c.Cloud.Sealed() || c.CredentialHash == before.CredentialHash && c.Context == before.Context {
		return
	}
	if to, err := r.Kubeconfigs.Destination(raw, reading(&c)); err == nil && to != "" && to == before.Cloud.Destination {
		return
	}
	problems.Add(c.Cloud.Cloud.SecretField(), "enter it again: the kubeconfig and context lead to another server (its address, certificate authority or proxy differs), and tokens made from it would go there")
}

// bindCloud notes where tokens of a cloud credential that is about to be sealed
// may go: where the kubeconfig leads now. What it leads to later is compared.
func (r *Registry) bindCloud(c *fleet.Cluster, raw []byte, problems fleet.Problems) {
	if c.SealedCloud == nil || len(problems) > 0 {
		return
	}
	var err error
	c.Cloud.Destination, err = r.Kubeconfigs.Destination(raw, reading(c))
	collect(problems, err)
}

// readCloud reads the fields of the cloud credential into the cluster, sealed.
// before is the row that is edited, or nil.
func (r *Registry) readCloud(form fleet.ClusterForm, c, before *fleet.Cluster, problems fleet.Problems) error {
	var stored fleet.CloudIdentity
	if before != nil {
		stored = before.Cloud
	}
	identity, cred := form.CloudCredential(stored, problems)
	c.Cloud = identity
	if form["cloud_credential"] == "sealed" && (cred != nil || !stored.Sealed()) && !r.Sealer.CanSeal() {
		e := fleet.Unavailable("A cloud credential cannot be kept here: no encryption key is configured.")
		e.Remedy = "Set PORTOLAN_ENCRYPTION_KEYS and start Portolan again, or give Portolan's own machine the credential."
		return e
	}
	if cred == nil || len(problems) > 0 {
		return nil
	}
	text, err := json.Marshal(cred)
	if err != nil {
		return err
	}
	c.SealedCloud = &fleet.SealedCredential{}
	c.SealedCloud.KeyID, c.SealedCloud.Sealed, err = r.Sealer.Seal(text, fleet.PurposeCloudCredential, c.ID)
	return err
}
