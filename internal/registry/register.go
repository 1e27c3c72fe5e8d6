package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"portolan/internal/fleet"
)

// Register adds a cluster from its form. It is untested then.
func (r *Registry) Register(ctx context.Context, actor fleet.Actor, form fleet.ClusterForm) (fleet.Cluster, error) {
	c, err := r.register(ctx, actor, form)
	if err != nil {
		return c, r.refused(ctx, actor, "create", form["id"], err)
	}
	return c, nil
}

func (r *Registry) register(ctx context.Context, actor fleet.Actor, form fleet.ClusterForm) (fleet.Cluster, error) {
	c, cred, err := r.read(ctx, form, nil)
	if err != nil {
		return c, err
	}
	entry := r.audit(actor, "create", c.ID)
	entry.Diff = difference(fleet.Cluster{}, c)
	c.Version = 1
	return c, r.Store.CreateCluster(ctx, c, cred, entry)
}

// Update changes a cluster. A form made from an earlier version of the row is
// CodeConflict; its Problems say what each field that differs holds now.
func (r *Registry) Update(ctx context.Context, actor fleet.Actor, id string, form fleet.ClusterForm) (fleet.Cluster, error) {
	c, err := r.update(ctx, actor, id, form)
	if err != nil {
		return c, r.refused(ctx, actor, "update", id, err)
	}
	return c, nil
}

func (r *Registry) update(ctx context.Context, actor fleet.Actor, id string, form fleet.ClusterForm) (fleet.Cluster, error) {
	status, err := r.Store.ClusterStatus(ctx, id)
	if err != nil {
		return fleet.Cluster{}, err
	}
	before := status.Cluster
	form["id"] = id
	version, err := strconv.ParseInt(form["version"], 10, 64)
	if err != nil {
		return before, fleet.Problems{"version": "the form does not say which version it was made from; open it again"}.Err()
	}
	c, cred, err := r.read(ctx, form, &before)
	if err != nil {
		return c, err
	}
	if version != before.Version {
		return before, r.outdated(before, c)
	}
	c.Version = version
	entry := r.audit(actor, "update", id)
	entry.Diff = difference(before, c)
	err = r.Store.UpdateCluster(ctx, c, cred, entry)
	if err == nil {
		r.changed(id)
	}
	if fleet.CodeOf(err) == fleet.CodeConflict {
		if status, again := r.Store.ClusterStatus(ctx, id); again == nil {
			return status.Cluster, r.outdated(status.Cluster, c)
		}
	}
	return c, err
}

// outdated says what another admin has changed meanwhile.
func (r *Registry) outdated(now, wanted fleet.Cluster) error {
	e := fleet.Conflict("Another admin saved this cluster while you were editing it.")
	e.Remedy = "Compare: each field that differs says what it holds now. Save again to put your values in their place."
	e.Problems = fleet.Problems{}
	for field, values := range difference(now, wanted) {
		e.Problems.Add(field, "now: %s", cmp.Or(values[0], "(empty)"))
	}
	if e.Problems["kubeconfig"] != "" || e.Problems["cloud_secret"] != "" {
		e.Remedy += " A secret that you typed was not kept: enter it again."
	}
	return e
}

// read turns a form into a cluster and, in encrypted mode with a kubeconfig
// typed in, its sealed credential. before is the row that is edited, or nil.
func (r *Registry) read(ctx context.Context, form fleet.ClusterForm, before *fleet.Cluster) (fleet.Cluster, *fleet.SealedCredential, error) {
	c, err := form.Parse()
	problems := problemsOf(err)
	if problems == nil && err != nil {
		return c, nil, err
	}
	typed := form["kubeconfig"]
	var raw []byte // the kubeconfig as it will be, where that matters
	if err := r.readCloud(form, &c, before, problems); err != nil {
		return c, nil, err
	}
	switch {
	case c.CredentialMode == fleet.CredentialMounted && c.KubeconfigPath != "":
		raw = r.readMounted(&c, problems)
	case c.CredentialMode == fleet.CredentialEncrypted && strings.TrimSpace(typed) != "":
		if !r.Sealer.CanSeal() {
			e := fleet.Unavailable("A kubeconfig cannot be kept here: no encryption key is configured.")
			e.Remedy = "Set PORTOLAN_ENCRYPTION_KEYS and start Portolan again, or mount the kubeconfig."
			return c, nil, e
		}
		collect(problems, r.Kubeconfigs.Check([]byte(typed), reading(&c)))
		raw = []byte(typed)
		c.CredentialHash = hashOf(raw)
		r.describe(&c, raw)
		r.bindCloud(&c, raw, problems)
	case c.CredentialMode == fleet.CredentialEncrypted && before != nil && before.CredentialMode == fleet.CredentialEncrypted:
		c.CredentialHash, c.Credential = before.CredentialHash, before.Credential // kept as it is
		if c.Context != before.Context || c.Allows != before.Allows || c.Credential == (fleet.CredentialFacts{}) {
			c.Credential = fleet.CredentialFacts{}
			if kept, err := r.Kubeconfig(ctx, before); err == nil { // the test tells of one that does not open
				r.describe(&c, kept)
			}
		}
		if c.SealedCloud != nil || c.Cloud.Sealed() && c.Context != before.Context {
			if raw, err = r.Kubeconfig(ctx, before); err != nil {
				return c, nil, err
			}
			r.bindCloud(&c, raw, problems)
		}
	case c.CredentialMode == fleet.CredentialEncrypted:
		if !r.Sealer.CanSeal() {
			e := fleet.Unavailable("A kubeconfig cannot be kept here: no encryption key is configured.")
			e.Remedy = "Set PORTOLAN_ENCRYPTION_KEYS and start Portolan again, or mount the kubeconfig."
			return c, nil, e
		}
		problems.Add("kubeconfig", "must not be empty: paste it, or choose a file")
	}
	if before != nil {
		r.holdCloud(c, *before, raw, problems)
	}
	if err := problems.Err(); err != nil || c.CredentialMode == fleet.CredentialMounted || strings.TrimSpace(typed) == "" {
		return c, nil, err
	}
	var cred fleet.SealedCredential
	cred.KeyID, cred.Sealed, err = r.Sealer.Seal([]byte(typed), fleet.PurposeKubeconfig, c.ID)
	return c, &cred, err
}

// readMounted returns the mounted kubeconfig that the form names, nil where
// there is a problem with it.
func (r *Registry) readMounted(c *fleet.Cluster, problems fleet.Problems) []byte {
	path, err := r.Kubeconfigs.Clean(c.KubeconfigPath)
	if err != nil {
		collect(problems, atField("kubeconfig_path", err))
		return nil
	}
	c.KubeconfigPath = path
	raw, err := r.Kubeconfigs.Read(path)
	if err != nil {
		collect(problems, atField("kubeconfig_path", err))
		return nil
	}
	collect(problems, r.Kubeconfigs.Check(raw, reading(c)))
	c.CredentialHash = hashOf(raw)
	r.describe(c, raw)
	r.bindCloud(c, raw, problems)
	return raw
}

// Inspect returns the contexts of the kubeconfig that the form names or holds,
// before anything is saved.
func (r *Registry) Inspect(_ context.Context, form fleet.ClusterForm) ([]Context, error) {
	mode, typed := form["credential_mode"], strings.TrimSpace(form["kubeconfig"]) != ""
	if mode == string(fleet.CredentialMounted) || mode == "" && !typed && strings.TrimSpace(form["kubeconfig_path"]) != "" {
		path, err := r.Kubeconfigs.Clean(strings.TrimSpace(form["kubeconfig_path"]))
		if err != nil {
			return nil, atField("kubeconfig_path", err)
		}
		raw, err := r.Kubeconfigs.Read(path)
		if err != nil {
			return nil, atField("kubeconfig_path", err)
		}
		return r.Kubeconfigs.Inspect(raw, Reading{Mode: fleet.CredentialMounted, Path: path, Allows: form.Allows(), Cloud: form.SealedCloud()})
	}
	if !typed {
		return nil, fleet.Problems{"kubeconfig": "must not be empty: paste it, or choose a file"}.Err()
	}
	return r.Kubeconfigs.Inspect([]byte(form["kubeconfig"]), Reading{Mode: fleet.CredentialEncrypted, Allows: form.Allows(), Cloud: form.SealedCloud()})
}

// SetEnabled switches a cluster on or off as a target.
func (r *Registry) SetEnabled(ctx context.Context, actor fleet.Actor, id string, on bool) error {
	action := "disable"
	if on {
		action = "enable"
	}
	if err := r.Store.SetEnabled(ctx, id, on, r.audit(actor, action, id)); err != nil {
		return r.refused(ctx, actor, action, id, err)
	}
	return nil
}

// Delete removes a cluster from the registry. It is CodeConflict while
// workloads refer to it; only then is the confirmation looked at.
func (r *Registry) Delete(ctx context.Context, actor fleet.Actor, id, confirm string) error {
	if err := r.remove(ctx, actor, id, confirm); err != nil {
		return r.refused(ctx, actor, "delete", id, err)
	}
	return nil
}

func (r *Registry) remove(ctx context.Context, actor fleet.Actor, id, confirm string) error {
	if _, err := r.Store.Cluster(ctx, id); err != nil {
		return err
	}
	names, err := r.Store.ClusterWorkloads(ctx, id)
	if err != nil {
		return err
	}
	if len(names) > 0 {
		return fleet.ClusterInUse(id, names)
	}
	if strings.TrimSpace(confirm) != id {
		return fleet.Problems{"confirm": fmt.Sprintf("type the id %s to confirm", id)}.Err()
	}
	if err := r.Store.DeleteCluster(ctx, id, r.audit(actor, "delete", id)); err != nil {
		return err
	}
	r.changed(id)
	return nil
}

// atField keeps an Error that names its field, and puts any other at field.
func atField(field string, err error) error {
	var e *fleet.Error
	if errors.As(err, &e) {
		if len(e.Problems) > 0 {
			return e
		}
		return fleet.Problems{field: strings.TrimSuffix(e.Message, ".")}.Err()
	}
	return fleet.Problems{field: err.Error()}.Err()
}

func problemsOf(err error) fleet.Problems {
	var e *fleet.Error
	switch {
	case err == nil:
		return fleet.Problems{}
	case errors.As(err, &e):
		return e.Problems
	default:
		return nil
	}
}

// collect adds the problems of err to those there are.
func collect(problems fleet.Problems, err error) {
	var e *fleet.Error
	if err == nil {
		return
	}
	if !errors.As(err, &e) || len(e.Problems) == 0 {
		problems.Add("kubeconfig", "%s", err.Error())
		return
	}
	for field, text := range e.Problems {
		problems.Add(field, "%s", text)
	}
}

// difference returns the fields in which two clusters differ, by form field
// name, without anything secret: a credential is only said to have changed.
func difference(before, after fleet.Cluster) map[string][2]string {
	a, b := FormOf(before), FormOf(after)
	out := map[string][2]string{}
	for _, field := range slices.Sorted(maps.Keys(b)) {
		if field != "version" && a[field] != b[field] {
			out[field] = [2]string{a[field], b[field]}
		}
	}
	if before.CredentialHash != after.CredentialHash && after.CredentialMode == fleet.CredentialEncrypted {
		out["kubeconfig"] = [2]string{"another one", "replaced"}
		if before.CredentialHash == "" {
			out["kubeconfig"] = [2]string{"", "set"}
		}
	}
	if before.Cloud != after.Cloud && after.Cloud.Sealed() {
		out["cloud_secret"] = [2]string{"another one", "replaced"}
		if !before.Cloud.Sealed() {
			out["cloud_secret"] = [2]string{"", "set"}
		}
	}
	return out
}
