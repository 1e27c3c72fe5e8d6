package seal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"portolan/internal/fleet"
)

// Store holds the sealed values of a database, by kind.
type Store interface {
	// SealedKinds are the kinds of values, in words for people.
	SealedKinds() []string
	// CountSealed returns how many values of a kind there are.
	CountSealed(ctx context.Context, kind string) (int, error)
	// SealedValues returns values in the order of their rows, at most limit of
	// them, from behind the row after; nil = from the first.
	SealedValues(ctx context.Context, kind string, after []string, limit int) ([]fleet.SealedValue, error)
	// ReplaceSealed puts values in the place of the old ones in one transaction,
	// except where the old one is not there any more; it returns how many.
	ReplaceSealed(ctx context.Context, kind string, changes []fleet.SealedChange) (int, error)
}

// State says how a value stands with the keyring.
type State string

// The states of sealed values.
const (
	Current State = "current"       // sealed with the first key
	Due     State = "due"           // opens, and is due for rotation
	Missing State = "key missing"   // its key is not in the keyring
	Wrong   State = "does not open" // the key of that id is another one, or the value was altered
)

// Count is how many values of a kind one key has sealed, in one state.
type Count struct {
	Kind, KeyID string
	State       State
	Rows        int
}

const surveyPage = 200 // values read at a time

// Survey tries every value and counts them by kind, key and state.
func (k *Keyring) Survey(ctx context.Context, store Store) ([]Count, error) {
	var out []Count
	for _, kind := range store.SealedKinds() {
		found := map[Count]int{}
		err := pages(ctx, store, kind, surveyPage, func(values []fleet.SealedValue) error {
			for _, v := range values {
				state, _ := k.look(v)
				found[Count{Kind: kind, KeyID: v.KeyID, State: state}]++
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		first := len(out)
		for count, rows := range found {
			count.Rows = rows
			out = append(out, count)
		}
		slices.SortFunc(out[first:], func(a, b Count) int {
			return cmp.Or(cmp.Compare(a.KeyID, b.KeyID), cmp.Compare(a.State, b.State))
		})
	}
	return out, nil
}

// look opens a value, and returns what is in it where that is possible.
func (k *Keyring) look(v fleet.SealedValue) (State, []byte) {
	sealed := Sealed{KeyID: v.KeyID, Data: v.Data}
	text, err := k.Open(sealed, AAD{Purpose: v.Purpose, Subject: v.Subject})
	state := Due
	if err == nil && v.KeyID == k.SealingKeyID() {
		state = Current
	}
	if errors.Is(err, ErrWrongKey) && v.Former != "" {
		text, err = k.Open(sealed, AAD{Purpose: v.Purpose, Subject: v.Former})
	}
	switch {
	case errors.Is(err, ErrNoKey):
		return Missing, nil
	case err != nil:
		return Wrong, nil
	}
	return state, text
}

// pages calls each with the values of a kind, in the order of their rows.
func pages(ctx context.Context, store Store, kind string, size int, each func([]fleet.SealedValue) error) error {
	var after []string
	for {
		values, err := store.SealedValues(ctx, kind, after, size)
		if err != nil || len(values) == 0 {
			return err
		}
		if err := each(values); err != nil {
			return err
		}
		after = values[len(values)-1].Row
	}
}

// Progress is how far the rotation of one kind of values has come.
type Progress struct {
	Kind     string
	Seen     int // in this pass
	Total    int // when the pass began
	Resealed int // by this rotation so far
}

// Rotation seals everything in a Store anew with the first key.
type Rotation struct {
	Ring  *Keyring
	Store Store
	// Batch bounds the values of one transaction; 0 = 100.
	Batch int
	// Report, if not nil, is called after each transaction.
	Report func(Progress)
}

// maxPasses bounds how often a rotation looks again for what others have
// changed in the meantime.
const maxPasses = 5

// Run seals anew what is not sealed with the first key, a batch in a
// transaction. It may be ended at any moment and run again, beside running
// processes and other rotations: a value that somebody changes meanwhile is
// left to the next pass. What cannot be opened stays as it is; the error then
// says so, after all the rest is done.
func (r Rotation) Run(ctx context.Context) (resealed int, err error) {
	if !r.Ring.CanSeal() {
		return 0, fmt.Errorf("%w: none is configured; set PORTOLAN_ENCRYPTION_KEYS", ErrNoKey)
	}
	for range maxPasses {
		changed, err := r.pass(ctx, &resealed)
		if err != nil {
			return resealed, err
		}
		if !changed {
			break
		}
	}
	return resealed, r.leftOver(ctx)
}

// errStillDue says that somebody seals with another key all the while.
var errStillDue = errors.New("values are being sealed with another key while this runs: start all processes again with this first key, then rotate once more")

// pass goes over every value once and reports whether any was due.
func (r Rotation) pass(ctx context.Context, resealed *int) (changed bool, err error) {
	for _, kind := range r.Store.SealedKinds() {
		progress := Progress{Kind: kind}
		if progress.Total, err = r.Store.CountSealed(ctx, kind); err != nil {
			return changed, err
		}
		err := pages(ctx, r.Store, kind, cmp.Or(r.Batch, 100), func(values []fleet.SealedValue) error {
			var changes []fleet.SealedChange
			for _, v := range values {
				state, text := r.Ring.look(v)
				if state != Due {
					continue
				}
				sealed, err := r.Ring.Seal(text, AAD{Purpose: v.Purpose, Subject: v.Subject})
				if err != nil {
					return err
				}
				changes = append(changes, fleet.SealedChange{Old: v, KeyID: sealed.KeyID, Data: sealed.Data})
			}
			n, err := r.Store.ReplaceSealed(ctx, kind, changes)
			if err != nil {
				return err
			}
			changed = changed || len(changes) > 0
			*resealed += n
			progress.Seen += len(values)
			progress.Resealed += n
			if r.Report != nil {
				r.Report(progress)
			}
			return nil
		})
		if err != nil {
			return changed, err
		}
	}
	return changed, nil
}

// leftOver is the error that names what could not be opened.
func (r Rotation) leftOver(ctx context.Context) error {
	counts, err := r.Ring.Survey(ctx, r.Store)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(counts, func(c Count) bool { return c.State == Due }) {
		return errors.Join(errStillDue, r.Ring.Unopened(counts))
	}
	return r.Ring.Unopened(counts)
}

// Unopened returns an error that names the values which do not open, nil when
// all do. The counts are those of the keyring's Survey.
func (k *Keyring) Unopened(counts []Count) error {
	var errs []error
	for _, c := range counts {
		switch c.State {
		case Missing:
			errs = append(errs, fmt.Errorf("%w: %d of the %s are sealed with the key %q, which %s does not hold", ErrNoKey, c.Rows, c.Kind, c.KeyID, k.place()))
		case Wrong:
			errs = append(errs, fmt.Errorf("%w: %d of the %s; the key under the id %q is not the one they were sealed with, or they were altered", ErrWrongKey, c.Rows, c.Kind, c.KeyID))
		}
	}
	return errors.Join(errs...)
}
