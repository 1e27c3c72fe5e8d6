package live

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// Resource is one kind of object that a workload is made of or makes.
type Resource struct {
	Kind   string
	Group  string // API group; "" = core
	Plural string
}

// The resources that Portolan reads.
var (
	Deployments  = Resource{"Deployment", "apps", "deployments"}
	StatefulSets = Resource{"StatefulSet", "apps", "statefulsets"}
	ReplicaSets  = Resource{"ReplicaSet", "apps", "replicasets"}
	Services     = Resource{"Service", "", "services"}
	ConfigMaps   = Resource{"ConfigMap", "", "configmaps"}
	Secrets      = Resource{"Secret", "", "secrets"}
	Claims       = Resource{"PersistentVolumeClaim", "", "persistentvolumeclaims"}
	Pods         = Resource{"Pod", "", "pods"}
	Events       = Resource{"Event", "", "events"}
	Namespaces   = Resource{"Namespace", "", "namespaces"}
	Autoscalers  = Resource{"HorizontalPodAutoscaler", "autoscaling", "horizontalpodautoscalers"}
)

// ErrExpired says that a watch must begin with a new list.
var ErrExpired = errors.New("live: the resource version is too old")

// Query narrows a list or a watch.
type Query struct {
	Labels string // a label selector
	Fields string // a field selector
	Limit  int    // how many at most; 0 = all
	Cached bool   // the API server may answer from its cache, a moment old
}

func (q Query) on(req *rest.Request) *rest.Request {
	if q.Labels != "" {
		req = req.Param("labelSelector", q.Labels)
	}
	if q.Fields != "" {
		req = req.Param("fieldSelector", q.Fields)
	}
	if q.Limit > 0 {
		req = req.Param("limit", strconv.Itoa(q.Limit))
	}
	return req
}

// Named selects the one object of that name.
func Named(name string) Query { return Query{Fields: "metadata.name=" + name} }

// List reads the objects of a namespace, and the version from which a watch
// goes on.
func List[T any](ctx context.Context, a *API, r Resource, namespace string, q Query) (items []T, version string, err error) {
	req := q.on(r.REST(a).Get().Namespace(namespace).Resource(r.Plural))
	if q.Cached {
		req = req.Param("resourceVersion", "0")
	}
	body, err := req.Stream(context.WithValue(ctx, listing{}, true))
	if err != nil {
		return nil, "", err
	}
	defer body.Close()
	l := lister[T]{limit: q.Limit}
	if err := l.read(body); err != nil {
		return nil, "", decoding("list of "+r.Plural, err)
	}
	return l.items, l.version, nil
}

// lister decodes a list an item at a time, so that the list itself is never
// held.
type lister[T any] struct {
	limit   int // of items, 0 = none: what comes after so many is not read
	items   []T
	kept    int // bytes that the items take
	version string
}

func (l *lister[T]) read(body io.Reader) error {
	meter := NewMeter(body)
	decoder := json.NewDecoder(meter)
	if begin, err := decoder.Token(); err != nil {
		return err
	} else if begin != json.Delim('{') {
		return errNoList
	}
	for decoder.More() {
		meter.next()
		key, err := decoder.Token()
		if err != nil {
			return err
		}
		switch key {
		case "metadata":
			var metadata struct {
				ResourceVersion string `json:"resourceVersion"`
			}
			if err := decoder.Decode(&metadata); err != nil {
				return err
			}
			l.version = Clip(metadata.ResourceVersion)
		case "items":
			if done, err := l.readItems(meter, decoder); done || err != nil {
				return err
			}
		default:
			var other json.RawMessage
			if err := decoder.Decode(&other); err != nil {
				return err
			}
		}
	}
	_, err := decoder.Token()
	return err
}

// readItems reports done when it has as many as were asked for.
func (l *lister[T]) readItems(meter *Meter, decoder *json.Decoder) (done bool, err error) {
	switch begin, err := decoder.Token(); {
	case err != nil:
		return false, err
	case begin == nil: // null, as some write an empty list
		return false, nil
	case begin != json.Delim('['):
		return false, errNoList
	}
	for decoder.More() {
		if l.limit > 0 && len(l.items) == l.limit {
			return true, nil
		}
		meter.next()
		var item T
		if err := decoder.Decode(&item); err != nil {
			return false, err
		}
		v := reflect.ValueOf(&item).Elem()
		if l.kept += int(v.Type().Size()) + clip(v); l.kept > maxKept {
			return false, errKept
		}
		l.items = append(l.items, item)
	}
	_, err = decoder.Token()
	return false, err
}

var errNoList = errors.New("the answer is not a list")

// Get reads one object into out; a NotFound error when it is absent. The
// namespace of what is in none is "".
func Get(ctx context.Context, a *API, r Resource, namespace, name string, out any) error {
	result := r.REST(a).Get().NamespaceIfScoped(namespace, namespace != "").Resource(r.Plural).Name(name).Do(ctx)
	if err := result.Error(); err != nil {
		return err // with the API server's own words, which Raw would not read
	}
	body, err := result.Raw()
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, out); err != nil {
		return decoding(r.Kind+" "+name, err)
	}
	ClipAll(out)
	return nil
}

// Change is what happened to a watched object.
type Change string

// The changes that Watch reports. Bookmark only moves the version on.
const (
	Added    Change = "ADDED"
	Modified Change = "MODIFIED"
	Deleted  Change = "DELETED"
	Bookmark Change = "BOOKMARK"
)

// Watch calls see for every change after version, until ctx ends, see returns
// an error, or the stream does: nil when the API server closed it in order, or
// when it has brought as much as one list may; ErrExpired when it must begin with
// a new list, which nil is answered with, too.
func Watch[T any](ctx context.Context, a *API, r Resource, namespace string, q Query, version string, see func(Change, *T) error) error {
	req := q.on(r.REST(a).Get().Namespace(namespace).Resource(r.Plural)).
		Param("watch", "true").Param("allowWatchBookmarks", "true").Param("resourceVersion", version)
	if deadline, ok := ctx.Deadline(); ok {
		req = req.Param("timeoutSeconds", strconv.Itoa(int(max(1, time.Until(deadline).Seconds()+1))))
	}
	body, err := req.Stream(ctx)
	if err != nil {
		return expired(err)
	}
	defer body.Close()
	meter := NewMeter(body)
	decoder := json.NewDecoder(meter)
	kept := 0 // at most: an object that changes is counted each time
	for kept < maxKept {
		meter.next()
		var event struct {
			Type   Change          `json:"type"`
			Object json.RawMessage `json:"object"`
		}
		switch err := decoder.Decode(&event); {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return decoding("watch of "+r.Plural, err)
		}
		if event.Type == "ERROR" {
			var status metav1.Status
			if err := json.Unmarshal(event.Object, &status); err != nil {
				return decoding("watch of "+r.Plural, err)
			}
			ClipAll(&status)
			return expired(apierrors.FromObject(&status))
		}
		object := new(T)
		if err := json.Unmarshal(event.Object, object); err != nil {
			return decoding("watch of "+r.Plural, err)
		}
		v := reflect.ValueOf(object).Elem()
		kept += int(v.Type().Size()) + clip(v)
		if err := see(event.Type, object); err != nil {
			return err
		}
	}
	return nil
}

func expired(err error) error {
	if apierrors.IsResourceExpired(err) || apierrors.IsGone(err) || apierrors.ReasonForError(err) == metav1.StatusReason(http.StatusText(http.StatusGone)) {
		return fmt.Errorf("%w: %w", ErrExpired, err)
	}
	return err
}
