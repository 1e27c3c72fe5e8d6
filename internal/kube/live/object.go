package live

import (
	"time"

	"portolan/internal/fleet"
)

// Meta is what is read of an object's metadata.
type Meta struct {
	Name              string      `json:"name"`
	UID               string      `json:"uid"`
	ResourceVersion   string      `json:"resourceVersion"`
	Generation        int64       `json:"generation"`
	CreationTimestamp time.Time   `json:"creationTimestamp"`
	DeletionTimestamp time.Time   `json:"deletionTimestamp"`
	Labels            Labels      `json:"labels"`
	Annotations       Annotations `json:"annotations"`
	OwnerReferences   []Reference `json:"ownerReferences"`
}

// Labels are the labels that are read.
type Labels struct {
	ManagedBy              string `json:"app.kubernetes.io/managed-by"`
	Workload               string `json:"portolan.dev/workload"`
	Installation           string `json:"portolan.dev/installation"`
	PodTemplateHash        string `json:"pod-template-hash"`
	ControllerRevisionHash string `json:"controller-revision-hash"`
}

// Annotations are the annotations that are read.
type Annotations struct {
	Release            string `json:"portolan.dev/release"`
	ReplicasBeforeStop string `json:"portolan.dev/replicas-before-stop"`
	SecretRelease      string `json:"portolan.dev/secret-release"`
	Kept               string `json:"portolan.dev/kept"`
	Revision           string `json:"deployment.kubernetes.io/revision"`
}

// Reference names an owner.
type Reference struct {
	UID string `json:"uid"`
}

// Ours reports whether the object belongs to the workload of the installation.
func (m *Meta) Ours(installation, workloadID string) bool {
	return m.Labels.ManagedBy == Manager && m.Labels.Installation == installation && m.Labels.Workload == workloadID
}

// Deleting reports whether the object is on its way out.
func (m *Meta) Deleting() bool { return !m.DeletionTimestamp.IsZero() }

// Controller is a Deployment or a StatefulSet.
type Controller struct {
	Meta `json:"metadata"`
	Spec struct {
		Replicas                *int32 `json:"replicas"`
		ProgressDeadlineSeconds *int32 `json:"progressDeadlineSeconds"`
	} `json:"spec"`
	Status struct {
		ObservedGeneration int64       `json:"observedGeneration"`
		Replicas           int32       `json:"replicas"`
		ReadyReplicas      int32       `json:"readyReplicas"`
		AvailableReplicas  int32       `json:"availableReplicas"`
		UpdatedReplicas    int32       `json:"updatedReplicas"`
		CurrentRevision    string      `json:"currentRevision"`
		UpdateRevision     string      `json:"updateRevision"`
		Conditions         []Condition `json:"conditions"`
	} `json:"status"`
}

// Desired is spec.replicas; the API server fills it in.
func (c *Controller) Desired() int32 {
	if c.Spec.Replicas == nil {
		return 1
	}
	return *c.Spec.Replicas
}

// Settled reports whether the controller has nothing left to do.
func (c *Controller) Settled() bool {
	n := c.Desired()
	return c.Status.ObservedGeneration >= c.Generation &&
		c.Status.Replicas == n && c.Status.UpdatedReplicas == n && c.Status.AvailableReplicas == n
}

// Condition is one condition of a Controller or a Pod.
type Condition struct {
	Type               string    `json:"type"`
	Status             string    `json:"status"`
	Reason             string    `json:"reason"`
	Message            string    `json:"message"`
	LastUpdateTime     time.Time `json:"lastUpdateTime"`
	LastTransitionTime time.Time `json:"lastTransitionTime"`
}

// Pod is one pod.
type Pod struct {
	Meta `json:"metadata"`
	Spec struct {
		NodeName   string `json:"nodeName"`
		Containers []struct {
			Name string `json:"name"`
		} `json:"containers"`
	} `json:"spec"`
	Status struct {
		Phase                 string            `json:"phase"`
		Reason                string            `json:"reason"`
		Message               string            `json:"message"`
		StartTime             time.Time         `json:"startTime"`
		Conditions            []Condition       `json:"conditions"`
		InitContainerStatuses []ContainerStatus `json:"initContainerStatuses"`
		ContainerStatuses     []ContainerStatus `json:"containerStatuses"`
	} `json:"status"`
}

// Condition returns the condition of that type, or nil.
func (p *Pod) Condition(kind string) *Condition {
	for i := range p.Status.Conditions {
		if p.Status.Conditions[i].Type == kind {
			return &p.Status.Conditions[i]
		}
	}
	return nil
}

// Container returns the status of a container, or nil where it has none yet.
func (p *Pod) Container(name string) *ContainerStatus {
	for _, list := range [][]ContainerStatus{p.Status.ContainerStatuses, p.Status.InitContainerStatuses} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return nil
}

// Started reports whether a container runs or has run, so that it has a log.
func (p *Pod) Started(name string) bool {
	c := p.Container(name)
	return c != nil && (c.State.Running != nil || c.State.Terminated != nil || c.LastState.Terminated != nil)
}

// Has reports whether the pod has a container of that name.
func (p *Pod) Has(name string) bool {
	for _, c := range p.Spec.Containers {
		if c.Name == name {
			return true
		}
	}
	return p.Container(name) != nil
}

// Ready reports whether the pod serves.
func (p *Pod) Ready() bool {
	c := p.Condition("Ready")
	return c != nil && c.Status == "True" && !p.Deleting()
}

// Over reports whether the pod has ended for good, by fleet's rule.
func (p *Pod) Over() bool { return fleet.PodOver(p.Status.Phase, p.Deleting()) }

// ContainerStatus is the status of one container.
type ContainerStatus struct {
	Name         string         `json:"name"`
	Ready        bool           `json:"ready"`
	RestartCount int32          `json:"restartCount"`
	State        ContainerState `json:"state"`
	LastState    ContainerState `json:"lastState"`
}

// ContainerState is one of its members.
type ContainerState struct {
	Waiting *struct {
		Reason  string `json:"reason"`
		Message string `json:"message"`
	} `json:"waiting"`
	Running *struct {
		StartedAt time.Time `json:"startedAt"`
	} `json:"running"`
	Terminated *struct {
		ExitCode int32  `json:"exitCode"`
		Signal   int32  `json:"signal"`
		Reason   string `json:"reason"`
		Message  string `json:"message"`
	} `json:"terminated"`
}

// Service is a Service.
type Service struct {
	Meta `json:"metadata"`
	Spec struct {
		Type              string        `json:"type"`
		ClusterIP         string        `json:"clusterIP"`
		LoadBalancerClass string        `json:"loadBalancerClass"`
		Ports             []ServicePort `json:"ports"`
	} `json:"spec"`
	Status struct {
		LoadBalancer struct {
			Ingress []Ingress `json:"ingress"`
		} `json:"loadBalancer"`
	} `json:"status"`
}

// ServicePort is one port of a Service.
type ServicePort struct {
	Name     string `json:"name"`
	Port     int32  `json:"port"`
	NodePort int32  `json:"nodePort"`
}

// Ingress is one address of a load balancer.
type Ingress struct {
	IP       string `json:"ip"`
	Hostname string `json:"hostname"`
}

// Address returns the load balancer's first address, or "".
func (s *Service) Address() string {
	for _, in := range s.Status.LoadBalancer.Ingress {
		if in.IP != "" {
			return in.IP
		}
		if in.Hostname != "" {
			return in.Hostname
		}
	}
	return ""
}
