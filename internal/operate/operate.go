package operate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"portolan/internal/fleet"
)

// Sealer encrypts secret values at rest; purpose and subject bind a value to
// the row it belongs to.
type Sealer interface {
	CanSeal() bool
	Seal(plaintext []byte, purpose, subject string) (keyID string, sealed []byte, err error)
	Open(keyID string, sealed []byte, purpose, subject string) ([]byte, error)
}

// Targets answers for clusters as targets.
type Targets interface {
	// CheckTarget returns the cluster, after a fresh look at its credential,
	// and an Error when it is not a target now.
	CheckTarget(ctx context.Context, clusterID string) (fleet.Status, error)
	// AnyTarget reports whether there is a target at all.
	AnyTarget(ctx context.Context) (bool, error)
}

// Options are what an Operator works with.
type Options struct {
	Store   Store
	Adapter Adapter
	Sealer  Sealer
	Targets Targets
	Logger  *slog.Logger
	// Slice bounds how long one run of a job works before it gives its worker
	// up to others; 0 = 5 s.
	Slice time.Duration
	// Heartbeat is how often a holder shows that it lives; 0 = 2 s. A takeover
	// must wait for several of these.
	Heartbeat time.Duration
	// Silence is for how long a holder may fail to show that it lives before it
	// lets go by itself; 0 = three heartbeats, and at least 3 s.
	Silence time.Duration
	// RefusedFor is how long the API server must have refused the credential
	// before that ends an operation; 0 = 10 s. One that has just started does not
	// know every account and role yet.
	RefusedFor time.Duration
	// AskedFor bounds how long this process asks in vain for what the API server
	// does in milliseconds once it is reached; 0 = 2 min.
	AskedFor time.Duration
}

// Operator holds the use cases of workloads.
type Operator struct {
	Options
	asking   *asking // in vain
	watching *asking // whatever the answer
}

// New returns an Operator. Adapter may be nil in a process that only begins
// operations and never previews or runs them.
func New(o Options) *Operator {
	if o.Slice == 0 {
		o.Slice = 5 * time.Second
	}
	if o.Heartbeat == 0 {
		o.Heartbeat = 2 * time.Second
	}
	if o.Silence == 0 {
		o.Silence = max(3*time.Second, 3*o.Heartbeat)
	}
	if o.RefusedFor == 0 {
		o.RefusedFor = 10 * time.Second
	}
	if o.AskedFor == 0 {
		o.AskedFor = 2 * time.Minute
	}
	return &Operator{o, newAsking(), newAsking()}
}

// draftRelease is a release that an operation begins with. What seals its
// secrets is called when its number is known; nil = it has none.
type draftRelease struct {
	fleet.Release
	seal fleet.SealRelease
}

// begin stores the operation, with what it changes in the record. Every refusal
// on the way to it is audited by refused.
func (o *Operator) begin(ctx context.Context, actor fleet.Actor, w fleet.Workload, verb fleet.Verb, params fleet.Params, release *draftRelease, changes difference) (fleet.Operation, error) {
	entry := audit(actor, verb, w)
	entry.Diff = changes
	switch verb {
	case fleet.VerbUpdate, fleet.VerbRollback, fleet.VerbRedeploy:
		params.Stopped = w.Stopped
	}
	b := fleet.Begin{
		Workload:  w,
		New:       verb == fleet.VerbDeploy,
		Operation: newOperation(actor, w, verb, params),
		Audit:     entry,
	}
	if release != nil {
		b.Release, b.Seal = &release.Release, release.seal
	}
	return o.Store.Begin(ctx, b)
}

func newOperation(actor fleet.Actor, w fleet.Workload, verb fleet.Verb, params fleet.Params) fleet.Operation {
	op := fleet.Operation{
		ID: newID(), WorkloadID: w.ID, WorkloadName: w.Name, ClusterID: w.ClusterID, Namespace: w.Namespace,
		Runtime: w.Runtime, Verb: verb, State: fleet.OperationQueued, Params: params, Actor: actor.Email, CreatedAt: time.Now(),
	}
	steps := fleet.Steps(verb)
	if params.First && !slices.Contains(steps, fleet.StepNamespace) {
		steps = append([]fleet.StepName{fleet.StepNamespace}, steps...)
	}
	for _, name := range steps {
		op.Steps = append(op.Steps, fleet.Step{Name: name, State: fleet.StepPending})
	}
	return op
}

// refused records an attempt that was turned away, and returns why.
func (o *Operator) refused(ctx context.Context, actor fleet.Actor, action, target string, why error) error {
	var shown *fleet.Error
	if !errors.As(why, &shown) {
		return why
	}
	entry := fleet.AuditEntry{
		At: time.Now(), Actor: actor.Email, Address: actor.Address, Action: action,
		Target: target, Outcome: "refused", Reason: shown.Message,
	}
	// Also when whoever tried has hung up.
	if err := o.Store.Audit(context.WithoutCancel(ctx), entry.Folded()); err != nil {
		o.Logger.ErrorContext(ctx, "write audit entry", "err", err)
	}
	return why
}

// action names a verb in the record.
func action(verb fleet.Verb) string { return "workload." + string(verb) }

func audit(actor fleet.Actor, verb fleet.Verb, w fleet.Workload) fleet.AuditEntry {
	return fleet.AuditEntry{
		At: time.Now(), Actor: actor.Email, Address: actor.Address, Action: action(verb),
		Target: "workload/" + w.ID, Outcome: "ok", Reason: w.Name + " on " + w.Target(),
	}
}

// sealSecrets checks that every secret of the spec has a value, and has them
// sealed with the release.
func (o *Operator) sealSecrets(r *draftRelease, values map[string]string) error {
	problems := fleet.Problems{}
	keep := map[string]string{}
	for _, name := range r.Spec.SecretEnv {
		value, ok := values[name]
		if !ok {
			problems.Add("secret_env", "%s has no value yet: write %s=VALUE", name, name)
		}
		keep[name] = value
	}
	if err := problems.Err(); err != nil || len(keep) == 0 {
		return err
	}
	if !o.Sealer.CanSeal() {
		e := fleet.Unavailable("Secret values cannot be kept: no encryption key is configured.")
		e.Remedy = "Set PORTOLAN_ENCRYPTION_KEYS and start Portolan again."
		return e
	}
	text, err := json.Marshal(keep)
	if err != nil {
		return err
	}
	r.seal = func(number int) (string, []byte, error) {
		return o.Sealer.Seal(text, fleet.PurposeReleaseSecrets, fleet.ReleaseSubject(r.WorkloadID, number))
	}
	return nil
}

// openSecrets returns the secret values of a release, or an Error that says
// which key would open them.
func (o *Operator) openSecrets(r fleet.Release) (map[string]string, error) {
	if len(r.SealedSecrets) == 0 {
		return map[string]string{}, nil
	}
	open := func(subject string) ([]byte, error) {
		return o.Sealer.Open(r.SealedKeyID, r.SealedSecrets, fleet.PurposeReleaseSecrets, subject)
	}
	text, err := open(fleet.ReleaseSubject(r.WorkloadID, r.Number))
	if errors.Is(err, fleet.ErrKeyWrong) {
		// Sealed before the number counted, and not rotated since.
		if former, formerErr := open(r.WorkloadID); formerErr == nil {
			text, err = former, nil
		}
	}
	if err != nil {
		return nil, fleet.Unopened(fmt.Sprintf("The secret values of release %d", r.Number), r.SealedKeyID, err)
	}
	values := map[string]string{}
	err = json.Unmarshal(text, &values)
	return values, err
}

// mergeSecrets lays the newly typed values over those of the release before,
// which is not opened when every name has a new value: a lost key must not be
// the end of the workload.
func (o *Operator) mergeSecrets(before fleet.Release, names []string, typed map[string]string) (map[string]string, error) {
	if !slices.ContainsFunc(names, func(name string) bool { _, ok := typed[name]; return !ok }) {
		return typed, nil
	}
	values, err := o.openSecrets(before)
	if err != nil {
		return nil, err
	}
	maps.Copy(values, typed)
	return values, nil
}

// newID returns a UUID of version 7, whose order is that of time.
func newID() string { return uuid.Must(uuid.NewV7()).String() }
