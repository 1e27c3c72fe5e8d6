// Command compose reads a compose file and fails unless it is well-formed and
// its services keep what README.md says of them.
package main

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"sigs.k8s.io/yaml"
)

type file struct {
	Services map[string]service        `json:"services"`
	Secrets  map[string]map[string]any `json:"secrets"`
	Volumes  map[string]any            `json:"volumes"`
}

type service struct {
	User        string         `json:"user"`
	ReadOnly    bool           `json:"read_only"`
	SecurityOpt []string       `json:"security_opt"`
	Healthcheck map[string]any `json:"healthcheck"`
	Environment map[string]any `json:"environment"`
	Secrets     []string       `json:"secrets"`
	Volumes     []any          `json:"volumes"`
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: compose FILE")
		os.Exit(2)
	}
	if err := check(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func check(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var f file
	if err := yaml.Unmarshal(text, &f); err != nil {
		return err
	}
	var wrong []error
	complain := func(name, what string) { wrong = append(wrong, fmt.Errorf("service %s %s", name, what)) }
	for _, name := range []string{"postgres", "web", "worker"} {
		s, ok := f.Services[name]
		if !ok {
			complain(name, "is missing")
			continue
		}
		if len(s.Healthcheck) == 0 {
			complain(name, "has no health check")
		}
		if !slices.Contains(s.SecurityOpt, "no-new-privileges:true") {
			complain(name, "may gain privileges")
		}
		for _, secret := range s.Secrets {
			if f.Secrets[secret]["file"] == nil {
				complain(name, "uses the secret "+secret+", which comes from no file")
			}
		}
		if name == "postgres" {
			// Those that the commands for backups name.
			if s.Environment["POSTGRES_USER"] != "portolan" || s.Environment["POSTGRES_DB"] != "portolan" {
				complain(name, "has another user or database than portolan")
			}
			continue
		}
		if !s.ReadOnly || s.User == "" {
			complain(name, "is not read-only or has no user")
		}
		if !slices.ContainsFunc(s.Volumes, kubeconfigs) {
			complain(name, "does not mount /kubeconfigs read-only")
		}
	}
	return errors.Join(wrong...)
}

func kubeconfigs(volume any) bool {
	v, ok := volume.(map[string]any)
	return ok && v["target"] == "/kubeconfigs" && v["read_only"] == true
}
