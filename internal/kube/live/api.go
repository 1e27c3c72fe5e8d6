package live

import (
	"net/http"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/flowcontrol"
)

// API speaks to the groups of one API server that Portolan uses. client-go's
// clientset has a client for every group there is, which costs each cluster
// memory and the program 10 MB, while what is read here is decoded into our own
// types anyway.
type API struct{ core, apps, autoscaling rest.Interface }

var (
	coreGroup        = schema.GroupVersion{Version: "v1"}
	appsGroup        = schema.GroupVersion{Group: "apps", Version: "v1"}
	autoscalingGroup = schema.GroupVersion{Group: "autoscaling", Version: "v2"}
)

// codecs read the API server's errors and write the options of a deletion.
var codecs = func() runtime.NegotiatedSerializer {
	scheme := runtime.NewScheme()
	for _, group := range []schema.GroupVersion{coreGroup, appsGroup, autoscalingGroup} {
		metav1.AddToGroupVersion(scheme, group)
	}
	return serializer.NewCodecFactory(scheme).WithoutConversion()
}()

// NewAPI returns an API that sends its requests through client, which carries
// the credential. Of cfg it takes the address and the limits.
func NewAPI(cfg *rest.Config, client *http.Client) (*API, error) {
	limiter := flowcontrol.NewTokenBucketRateLimiter(cfg.QPS, cfg.Burst)
	group := func(version schema.GroupVersion) (rest.Interface, error) {
		c := *cfg
		c.GroupVersion, c.APIPath = &version, "/apis"
		if version.Group == "" {
			c.APIPath = "/api"
		}
		c.NegotiatedSerializer, c.RateLimiter = codecs, limiter
		c.ContentType, c.AcceptContentTypes = runtime.ContentTypeJSON, runtime.ContentTypeJSON
		return rest.RESTClientForConfigAndClient(&c, client)
	}
	var a API
	var err error
	if a.core, err = group(coreGroup); err != nil {
		return nil, err
	}
	if a.apps, err = group(appsGroup); err != nil {
		return nil, err
	}
	a.autoscaling, err = group(autoscalingGroup)
	return &a, err
}

// REST returns the client of r's API group.
func (r Resource) REST(a *API) rest.Interface {
	switch r.Group {
	case appsGroup.Group:
		return a.apps
	case autoscalingGroup.Group:
		return a.autoscaling
	default:
		return a.core
	}
}

// Logs asks for the log of a pod.
func Logs(a *API, namespace, pod string, o corev1.PodLogOptions) *rest.Request {
	req := a.core.Get().Namespace(namespace).Resource(Pods.Plural).Name(pod).SubResource("log")
	set := func(name, value string, given bool) {
		if given {
			req = req.Param(name, value)
		}
	}
	set("container", o.Container, o.Container != "")
	set("follow", "true", o.Follow)
	set("previous", "true", o.Previous)
	set("timestamps", "true", o.Timestamps)
	if o.SinceTime != nil {
		set("sinceTime", o.SinceTime.UTC().Format(time.RFC3339), true)
	}
	if o.TailLines != nil {
		set("tailLines", strconv.FormatInt(*o.TailLines, 10), true)
	}
	if o.LimitBytes != nil {
		set("limitBytes", strconv.FormatInt(*o.LimitBytes, 10), true)
	}
	return req
}
