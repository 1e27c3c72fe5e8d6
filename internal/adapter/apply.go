package adapter

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/csaupgrade"

	"portolan/internal/fleet"
	"portolan/internal/kube/live"
)

// object is one Kubernetes object as it is wanted: JSON of an apply
// configuration, without resource version.
type object struct {
	live.Resource
	name string
	want map[string]any
}

func (o object) String() string { return named(o.Resource, o.name) }

// present is what is there under an object's name.
type present struct {
	live.Meta
	managed []metav1.ManagedFieldsEntry
	raw     []byte
}

const metadataOnly = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"

func (j *job) request(verb func(rest.Interface) *rest.Request, r live.Resource) *rest.Request {
	return verb(r.REST(j.api)).Namespace(j.Workload.Namespace).Resource(r.Plural)
}

func (j *job) patch(kind types.PatchType, r live.Resource, name string, body []byte) *rest.Request {
	return r.REST(j.api).Patch(kind).Namespace(j.Workload.Namespace).Resource(r.Plural).Name(name).
		Param("fieldManager", live.Manager).SetHeader("Accept", metadataOnly).Body(body)
}

// answer is the body of a response, or the error that the API server gave in
// its own words, which Raw alone would not read.
func answer(result rest.Result) ([]byte, error) {
	if err := result.Error(); err != nil {
		return nil, err
	}
	return result.Raw()
}

// look reads what is there under a name; nil when nothing is. With accept
// metadataOnly the object's content stays in the cluster.
func (j *job) look(ctx context.Context, r live.Resource, name, accept string) (*present, error) {
	raw, err := answer(j.request(rest.Interface.Get, r).Name(name).SetHeader("Accept", accept).Do(ctx))
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, refusal(err, "read", named(r, name))
	}
	return parsePresent(raw)
}

func parsePresent(raw []byte) (*present, error) {
	var p struct {
		live.Meta `json:"metadata"`
	}
	var m struct {
		Metadata struct {
			ManagedFields []metav1.ManagedFieldsEntry `json:"managedFields"`
		} `json:"metadata"`
	}
	if err := errors.Join(json.Unmarshal(raw, &p), json.Unmarshal(raw, &m)); err != nil {
		return nil, fmt.Errorf("read an object: %w", err)
	}
	return &present{Meta: p.Meta, managed: m.Metadata.ManagedFields, raw: raw}, nil
}

// guard reads what is there under a name, and fails when it is not ours nor a
// volume that was kept for whoever takes it up.
func (j *job) guard(ctx context.Context, r live.Resource, name, accept string) (*present, error) {
	p, err := j.look(ctx, r, name, accept)
	if err != nil {
		return nil, err
	}
	if p != nil && !p.Ours(j.Installation, j.Workload.ID) && !j.kept(r, &p.Meta) {
		return nil, conflict(named(r, name), j.Workload.Namespace)
	}
	return p, nil
}

// outcome is what an apply came to, in the words of kubectl.
type outcome string

const (
	created    outcome = "created"
	configured outcome = "configured"
	unchanged  outcome = "unchanged"
)

// errMoved says that the object changed between the look and the apply.
var errMoved = errors.New("the object keeps changing")

// apply brings an object to what is wanted. seen is what guard found; it is
// looked at again whenever the object has changed since, so that an object
// which becomes somebody else's in between is not touched either.
func (j *job) apply(ctx context.Context, o object, seen *present) (outcome, error) {
	for range 10 {
		result, err := j.applyOnce(ctx, o, seen)
		if err == nil {
			return result, nil
		}
		// A Deployment that appeared meanwhile shows as an attempt to change
		// its selector, which no one can.
		appeared := seen == nil && (apierrors.IsAlreadyExists(err) || apierrors.IsInvalid(err))
		if !appeared && !apierrors.IsConflict(err) {
			return "", err
		}
		again, lookErr := j.guard(ctx, o.Resource, o.name, metadataOnly)
		if lookErr != nil {
			return "", lookErr
		}
		if again == nil && apierrors.IsInvalid(err) {
			return "", err // nothing is in the way: the object itself is wrong
		}
		seen = again
	}
	return "", fmt.Errorf("apply %s: %w", o, errMoved)
}

func (j *job) applyOnce(ctx context.Context, o object, seen *present) (outcome, error) {
	if seen == nil {
		return created, j.create(ctx, o)
	}
	if seen.Deleting() {
		return "", fmt.Errorf("apply %s: it is still being deleted", o)
	}
	if o.Resource != live.Deployments && o.Resource != live.StatefulSets {
		var err error
		if seen, err = j.adopt(ctx, o, seen); err != nil {
			return "", err
		}
	}
	after, err := j.serverSideApply(ctx, o, map[string]any{"uid": seen.UID, "resourceVersion": seen.ResourceVersion})
	if err != nil {
		return "", err
	}
	if after.ResourceVersion == seen.ResourceVersion {
		return unchanged, nil
	}
	return configured, nil
}

// create makes an object that is not there. Server-side apply cannot say "only
// if absent". A Deployment or StatefulSet needs no more protection than its
// selector, which holds the workload's id and cannot be changed; any other
// object is created, which fails when the name has been taken meanwhile, and
// then becomes the field manager's as if applied.
func (j *job) create(ctx context.Context, o object) error {
	if o.Resource == live.Deployments || o.Resource == live.StatefulSets {
		_, err := j.serverSideApply(ctx, o, nil)
		return err
	}
	body, err := json.Marshal(o.want)
	if err != nil {
		return err
	}
	raw, err := answer(j.request(rest.Interface.Post, o.Resource).
		Param("fieldManager", live.Manager).SetHeader("Accept", metadataOnly).SetHeader("Content-Type", "application/json").
		Body(body).Do(ctx))
	if err != nil {
		return err
	}
	made, err := parsePresent(raw)
	if err != nil {
		return err
	}
	j.later.Go(func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestTime)
		defer cancel()
		return j.adoptMade(ctx, o, made)
	})
	return nil
}

// adoptMade adopts an object that was just created. Nobody waits for it: if it
// does not come to it, the next apply does.
func (j *job) adoptMade(ctx context.Context, o object, made *present) error {
	for range 10 {
		_, err := j.adopt(ctx, o, made)
		if !apierrors.IsConflict(err) {
			return refusal(err, "patch", o.String())
		}
		// A controller was quick to add to it.
		if made, err = j.look(ctx, o.Resource, o.name, metadataOnly); made == nil || err != nil {
			return err
		}
	}
	return nil
}

// adopt lets fields that were created count as applied, so that later applies
// can remove them. It returns the object as it is then.
func (j *job) adopt(ctx context.Context, o object, seen *present) (*present, error) {
	if !slices.ContainsFunc(seen.managed, func(m metav1.ManagedFieldsEntry) bool {
		return m.Manager == live.Manager && m.Operation == metav1.ManagedFieldsOperationUpdate && m.Subresource == ""
	}) {
		return seen, nil
	}
	meta := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
		Name: o.name, ResourceVersion: seen.ResourceVersion, ManagedFields: seen.managed,
	}}
	patch, err := csaupgrade.UpgradeManagedFieldsPatch(meta, sets.New(live.Manager), live.Manager)
	if err != nil || patch == nil {
		return seen, err
	}
	raw, err := answer(j.patch(types.JSONPatchType, o.Resource, o.name, patch).Do(ctx))
	if err != nil {
		return nil, err
	}
	return parsePresent(raw)
}

// serverSideApply applies o under the conditions, which are metadata that
// must be equal to what is there.
func (j *job) serverSideApply(ctx context.Context, o object, conditions map[string]any) (*present, error) {
	want := o.want
	if conditions != nil {
		metadata := map[string]any{}
		for k, v := range o.want["metadata"].(map[string]any) {
			metadata[k] = v
		}
		for k, v := range conditions {
			metadata[k] = v
		}
		want = map[string]any{}
		for k, v := range o.want {
			want[k] = v
		}
		want["metadata"] = metadata
	}
	body, err := json.Marshal(want)
	if err != nil {
		return nil, err
	}
	raw, err := answer(j.patch(types.ApplyYAMLPatchType, o.Resource, o.name, body).Param("force", "true").Do(ctx))
	if err != nil {
		return nil, err
	}
	return parsePresent(raw)
}

// mergePatch changes only the fields in patch of an object that was seen, and
// only if it has not changed since.
func (j *job) mergePatch(ctx context.Context, r live.Resource, name string, seen *live.Meta, patch map[string]any) error {
	metadata, _ := patch["metadata"].(map[string]any)
	if metadata == nil {
		metadata = map[string]any{}
		patch["metadata"] = metadata
	}
	metadata["uid"], metadata["resourceVersion"] = seen.UID, seen.ResourceVersion
	body, err := json.Marshal(patch)
	if err != nil {
		return err
	}
	return j.patch(types.MergePatchType, r, name, body).Do(ctx).Error()
}

// owns reports whether the field manager applied a field of that name.
func (p *present) owns(field string) bool {
	return slices.ContainsFunc(p.managed, func(m metav1.ManagedFieldsEntry) bool {
		return m.Manager == live.Manager && m.FieldsV1 != nil && strings.Contains(m.FieldsV1.GetRawString(), `"f:`+field+`"`)
	})
}

// report tells of an applied object.
func (j *job) report(o object, result outcome) {
	j.event(fleet.EventNormal, "", o.String(), "%s %s", o, result)
}
