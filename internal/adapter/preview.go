package adapter

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"portolan/internal/fleet"
	"portolan/internal/kube/live"
)

// The actions of an fleet.ObjectPreview.
const (
	previewCreate    = "create"
	previewConfigure = "configure"
	previewUnchanged = "unchanged"
	previewConflict  = "conflict"
)

// Preview asks the API server, in a dry run, what applying the request's
// objects would do. Nothing is changed. Objects of a namespace that is not
// there yet cannot be tried; they are returned with that said.
func (a *Adapter) Preview(ctx context.Context, r fleet.StepRequest) ([]fleet.ObjectPreview, error) {
	client, err := a.clients.Get(ctx, &r.Cluster)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	j := &job{StepRequest: r, api: client.API, opts: a.opts, now: a.now}
	b := &blueprint{
		cluster: r.Cluster, workload: r.Workload, spec: r.Spec, secrets: r.Secrets,
		installation: r.Installation, replicas: r.Workload.Replicas, secretRelease: "1",
	}
	objects := append([]object{b.controller()}, b.needs()...)
	if len(b.spec.Ports) > 0 {
		objects = append(objects, b.service(b.fixedNodePorts()))
		if b.stateful() {
			objects = append(objects, b.headlessService())
		}
	}

	var out []fleet.ObjectPreview
	err = live.Get(ctx, j.api, live.Namespaces, "", r.Workload.Namespace, &live.Meta{})
	absent := apierrors.IsNotFound(err)
	if err != nil && !absent && !apierrors.IsForbidden(err) {
		return nil, unreachable(r.Cluster, err)
	}
	if absent {
		out = append(out, fleet.ObjectPreview{
			Kind: "Namespace", Name: r.Workload.Namespace, Action: previewCreate,
			Summary: "made first; the cluster can check the objects in it only then",
		})
	}
	previews := make([]fleet.ObjectPreview, len(objects))
	group, ctx := errgroup.WithContext(ctx)
	for i, o := range objects {
		group.Go(func() (err error) {
			previews[i], err = j.preview(ctx, b, o, !absent)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, unreachable(r.Cluster, err)
	}
	return append(out, previews...), nil
}

// preview tries one object. An error is one that says nothing of the object.
func (j *job) preview(ctx context.Context, b *blueprint, o object, try bool) (fleet.ObjectPreview, error) {
	p := fleet.ObjectPreview{Kind: o.Kind, Name: o.name, Action: previewCreate, Summary: b.summary(o)}
	var err error
	if try {
		var seen *present
		if seen, err = j.guard(ctx, o.Resource, o.name, metadataOnly); err == nil {
			p.Action, err = j.dryRun(ctx, o, seen)
		}
		if seen != nil && j.kept(o.Resource, &seen.Meta) {
			p.Action = previewConfigure // it gets other labels, which a dry run does not show
			p.Note = takenUp(o.String(), b.name()) + "."
		}
		if o.Resource == live.Services && o.name == b.name() {
			o, err = j.withoutTaken(ctx, b, o, seen, &p, err)
		}
	}
	if o.Resource == j.kind() {
		p.Note = b.spec.Sharing(b.replicas)
	}
	text, yamlErr := yaml.Marshal(masked(o))
	if yamlErr != nil {
		return p, yamlErr
	}
	p.YAML = string(text)
	if !try {
		return p, nil
	}
	p.Tried = err == nil
	var failure *fleet.Failure
	switch err = conceal(b.secrets).error(refusal(err, "apply", o.String())); {
	case errors.As(err, &failure) && failure.Reason == fleet.ReasonConflict:
		p.Tried, p.Action, p.Error = true, previewConflict, failure.Message
	case errors.As(err, &failure):
		p.Tried, p.Error = true, failure.Message
	case err != nil:
		return p, err
	}
	return p, nil
}

// withoutTaken tries the Service again without the fixed node ports that are
// taken, as a deploy does. err is what the try before came to.
func (j *job) withoutTaken(ctx context.Context, b *blueprint, o object, seen *present, p *fleet.ObjectPreview, err error) (object, error) {
	fixed := b.fixedNodePorts()
	var notes []string
	for err != nil {
		taken := takenNodePort(err, b.spec.Ports, fixed)
		if taken == "" {
			break
		}
		notes = append(notes, fmt.Sprintf("Node port %d for port %s is taken by another Service; a free one is used instead.", fixed[taken], taken))
		delete(fixed, taken)
		o = b.service(fixed)
		p.Action, err = j.dryRun(ctx, o, seen)
	}
	p.Note = strings.Join(notes, " ")
	return o, err
}

func (j *job) dryRun(ctx context.Context, o object, seen *present) (action string, err error) {
	body, err := json.Marshal(o.want)
	if err != nil {
		return "", err
	}
	if seen == nil {
		return previewCreate, j.request(rest.Interface.Post, o.Resource).Param("dryRun", metav1.DryRunAll).
			Param("fieldManager", live.Manager).SetHeader("Content-Type", "application/json").Body(body).Do(ctx).Error()
	}
	raw, err := answer(j.patch(types.ApplyYAMLPatchType, o.Resource, o.name, body).
		Param("force", "true").Param("dryRun", metav1.DryRunAll).Do(ctx))
	if err != nil {
		return previewConfigure, err
	}
	after, err := parsePresent(raw)
	if err != nil || after.Generation != seen.Generation || !equality.Semantic.DeepEqual(after.applied(), seen.applied()) {
		return previewConfigure, err
	}
	return previewUnchanged, nil
}

// applied is what the API server keeps of our own last apply. Of an apply that
// changes nothing it keeps the time of the one before, also in a dry run, which
// does not tell by a resource version.
// https://kubernetes.io/docs/reference/using-api/server-side-apply/
func (p *present) applied() (entry metav1.ManagedFieldsEntry) {
	for _, m := range p.managed {
		if m.Manager == live.Manager && m.Operation == metav1.ManagedFieldsOperationApply && m.Subresource == "" {
			entry = m
		}
	}
	return entry
}

// masked returns the object without the values of a Secret.
func masked(o object) map[string]any {
	if o.Resource != live.Secrets {
		return o.want
	}
	out := map[string]any{}
	for key, value := range o.want {
		out[key] = value
	}
	data := map[string]any{}
	if values, ok := o.want["data"].(map[string]any); ok {
		for key := range values {
			data[key] = "(not shown)"
		}
	}
	out["data"] = data
	return out
}

// summary says what matters about an object, in a line.
func (b *blueprint) summary(o object) string {
	switch o.Resource {
	case live.Deployments, live.StatefulSets:
		parts := []string{b.spec.Image, count(int(b.replicas), "replica")}
		if r := b.spec.Resources; r.CPU != "" || r.Memory != "" {
			parts = append(parts, strings.Trim(r.CPU+" CPU / "+r.Memory, " /"))
		}
		return strings.Join(parts, " · ")
	case live.Services:
		var ports []string
		for _, p := range b.spec.Ports {
			ports = append(ports, fmt.Sprintf("%s %d", p.Name, p.Number))
		}
		kind := "ClusterIP"
		if o.name == b.headless() {
			kind = "headless"
		} else if spec, ok := o.want["spec"].(map[string]any); ok {
			kind = fmt.Sprint(spec["type"])
		}
		return kind + " · " + strings.Join(ports, ", ")
	case live.ConfigMaps:
		if o.name == b.bootstrap() {
			return fmt.Sprintf("%s, %d bytes", bootstrapKey, len(b.spec.Bootstrap))
		}
		return count(len(b.spec.Files), "file")
	case live.Secrets:
		return count(len(b.spec.SecretEnv), "key")
	default:
		for _, v := range b.spec.Volumes {
			if claim(b.name(), v.Name) == o.name {
				return strings.TrimSuffix(v.Size+" · "+v.StorageClass, " · ")
			}
		}
		return ""
	}
}

func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// unreachable is for a person who waits for an answer, unlike a step, which is
// tried again.
func unreachable(c fleet.Cluster, cause error) error {
	var failure *fleet.Failure
	if errors.As(cause, &failure) {
		return &fleet.Error{Code: fleet.CodeConflict, Message: failure.Message, Remedy: failure.Remedy, Err: cause}
	}
	e := fleet.Unavailable("%s does not answer now, so it could not be asked.", c.Label)
	e.Remedy = "Look at the cluster's page: its test says what is wrong."
	e.Err = cause
	return e
}
