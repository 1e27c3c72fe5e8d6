package views

// headings say in a sentence what a failure's reason means to the person who
// reads it.
var headings = map[string]string{
	"ImagePullBackOff":           "The image could not be pulled.",
	"ErrImagePull":               "The image could not be pulled.",
	"ErrImageNeverPull":          "The image is not on the node.",
	"InvalidImageName":           "The image's name is not valid.",
	"CrashLoopBackOff":           "The container ends again and again.",
	"CreateContainerConfigError": "The container's settings are incomplete.",
	"CreateContainerError":       "The container could not be made.",
	"RunContainerError":          "The container could not be started.",
	"StartError":                 "The container could not be started.",
	"OOMKilled":                  "The container ran out of memory.",
	"Unschedulable":              "No node can take the pod.",
	"FailedCreate":               "The pods were refused.",
	"NotReady":                   "The health check does not pass.",
	"QuotaExceeded":              "The namespace's quota is used up.",
	"AdmissionDenied":            "A rule of the cluster refused it.",
	"NamespaceTerminating":       "The namespace is being deleted.",
	"LoadBalancerTimeout":        "The load balancer got no address in time.",
	"Conflict":                   "An object of this name belongs to someone else.",
	"Forbidden":                  "The credential lacks a permission.",
	"Unauthorized":               "The cluster does not accept the credential.",
	"Unreachable":                "The cluster does not answer.",
	"DeadlineExceeded":           "It took too long.",
	"ProgressDeadlineExceeded":   "It took too long.",
	"AnotherCluster":             "The credential leads to another cluster.",
	"TargetChanged":              "The cluster is no longer a target.",
	"Invalid":                    "The cluster refused the object.",
}

// heading is empty for a reason that speaks for itself.
func (c Cause) heading() string { return headings[c.Title] }
