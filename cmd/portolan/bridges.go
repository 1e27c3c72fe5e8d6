package main

import (
	"context"

	"portolan/internal/fleet"
	"portolan/internal/kube"
	"portolan/internal/registry"
	"portolan/internal/seal"
)

// The packages that meet here do not know each other. Where the words of two
// differ, these few lines translate.

// sealer is a seal.Keyring in the words of registry and operate.
type sealer struct{ ring *seal.Keyring }

func (s sealer) CanSeal() bool { return s.ring.CanSeal() }

func (s sealer) Seal(plaintext []byte, purpose, subject string) (string, []byte, error) {
	sealed, err := s.ring.Seal(plaintext, seal.AAD{Purpose: purpose, Subject: subject})
	return sealed.KeyID, sealed.Data, err
}

func (s sealer) Open(keyID string, sealed []byte, purpose, subject string) ([]byte, error) {
	return s.ring.Open(seal.Sealed{KeyID: keyID, Data: sealed}, seal.AAD{Purpose: purpose, Subject: subject})
}

// kubeconfigs is a kube.Root, and kube's reading of any bytes, in the words of
// registry.
type kubeconfigs struct{ root *kube.Root }

func (k kubeconfigs) Clean(path string) (string, error) { return k.root.Clean(path) }

// Read returns the file with what it refers to inlined, so that the hash of
// the bytes stands for the whole credential.
func (k kubeconfigs) Read(rel string) ([]byte, error) { return k.root.Kubeconfig(rel) }

func (k kubeconfigs) List() ([]registry.Found, error) {
	files, err := k.root.List()
	if err != nil {
		return nil, err
	}
	out := make([]registry.Found, len(files))
	for i, f := range files {
		out[i] = registry.Found{Path: f.Path, Hash: f.Hash, Problem: f.Problem, Contexts: contexts(f.Inspection)}
	}
	return out, nil
}

func (k kubeconfigs) Inspect(raw []byte, r registry.Reading) ([]registry.Context, error) {
	inspection := kube.Inspect(raw, k.options(r))
	if inspection.Problem != "" {
		field := "kubeconfig"
		if r.Mode == fleet.CredentialMounted {
			field = "kubeconfig_path"
		}
		return nil, fleet.Problems{field: inspection.Problem}.Err()
	}
	return contexts(inspection), nil
}

func (k kubeconfigs) Check(raw []byte, r registry.Reading) error {
	_, err := kube.Parse(raw, k.options(r))
	return err
}

func (k kubeconfigs) Facts(raw []byte, r registry.Reading) (fleet.CredentialFacts, error) {
	config, err := kube.Parse(raw, k.options(r))
	if err != nil {
		return fleet.CredentialFacts{}, err
	}
	return config.Facts(""), nil
}

func (k kubeconfigs) Destination(raw []byte, r registry.Reading) (string, error) {
	config, err := kube.Parse(raw, k.options(r))
	if err != nil {
		return "", err
	}
	return config.Destination()
}

func (k kubeconfigs) options(r registry.Reading) kube.ParseOptions {
	o := kube.ParseOptions{Context: r.Context, Allows: r.Allows, Cloud: fleet.CloudCredential{Cloud: r.Cloud}}
	if r.Mode == fleet.CredentialMounted {
		o.Root, o.Path = k.root, r.Path
	}
	return o
}

func contexts(i kube.Inspection) []registry.Context {
	out := make([]registry.Context, len(i.Contexts))
	for n, c := range i.Contexts {
		out[n] = registry.Context{
			Name: c.Name, Cluster: c.Cluster, User: c.User, Server: c.Server,
			Current: c.Name == i.Current, Says: c.Says, Refusal: c.Refusal, Account: c.Account,
		}
	}
	return out
}

// tester is a kube.Tester in the words of registry.
type tester struct{ kube *kube.Tester }

func (t tester) Test(ctx context.Context, r registry.TestRequest, progress func(fleet.ConnectionTest)) fleet.ConnectionTest {
	return t.kube.Run(ctx, kube.TestRequest{
		Cluster: r.Cluster, Kubeconfig: r.Kubeconfig, KubeconfigErr: r.KubeconfigError, Cloud: r.Cloud, Deadline: r.Deadline, Yield: r.Yield,
		Pinned: r.Pinned,
	}, progress)
}

func (tester) Manifest(c fleet.Cluster, identity string) ([]byte, error) {
	return kube.RBACManifest(&c, identity)
}
