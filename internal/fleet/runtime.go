package fleet

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"sync"
)

// Runtime is a family of workloads: what its pods run, listen on and keep.
// Runtimes are data, so a further one needs no code.
type Runtime struct {
	ID          string       `json:"id"`
	Label       string       `json:"label"`
	Description string       `json:"description"`
	Image       string       `json:"image,omitempty"` // default; "" = the person names one
	Command     []string     `json:"command,omitempty"`
	Args        []string     `json:"args,omitempty"`
	Ports       []Port       `json:"ports,omitempty"` // default; also fixed, where FixedPorts
	FixedPorts  bool         `json:"fixedPorts,omitempty"`
	Env         []EnvVar     `json:"env,omitempty"` // starting values of the form
	Bootstrap   string       `json:"bootstrap,omitempty"`
	Volumes     []Volume     `json:"volumes,omitempty"`
	Health      *HealthCheck `json:"health,omitempty"`
	// Capabilities are the Linux capabilities that the runtime cannot do
	// without; all others are dropped.
	Capabilities []string `json:"capabilities,omitempty"`
	// OwnNamespace offers a namespace of its own on the cluster form.
	OwnNamespace bool `json:"ownNamespace,omitempty"`
}

//go:embed runtimes.json
var runtimesJSON []byte

// Runtimes returns every runtime in the order forms show them.
var Runtimes = sync.OnceValue(func() []Runtime {
	var out []Runtime
	if err := json.Unmarshal(runtimesJSON, &out); err != nil {
		panic(fmt.Sprintf("fleet: runtimes.json: %v", err)) // embedded: a test loads it
	}
	return out
})

// RuntimeByID returns the runtime, or false.
func RuntimeByID(id string) (Runtime, bool) {
	for _, r := range Runtimes() {
		if r.ID == id {
			return r, true
		}
	}
	return Runtime{}, false
}
