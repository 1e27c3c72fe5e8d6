package main

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// kubeconfigCommand prints the cluster's kubeconfig, or one for another user.
type kubeconfigCommand struct {
	Name  string        `required:"" help:"The cluster."`
	Dir   string        `help:"Folder of the clusters."`
	User  string        `help:"Make a client certificate for this user instead: no rights but what RBAC gives it."`
	OIDC  string        `name:"oidc" help:"Make an ID token for this subject instead, who is the user oidc:SUBJECT (k3s)."`
	Group []string      `help:"Groups of that user."`
	TTL   time.Duration `name:"ttl" default:"24h" help:"How long that certificate or ID token is good; negative for one that has expired."`
	Exec  bool          `help:"As the provider's own tool writes it: credentials come from a program (aks, gke, eks)."`
}

// Run prints to standard output.
func (k *kubeconfigCommand) Run() error {
	c, err := loadCluster(k.Dir, k.Name)
	if err != nil {
		return err
	}
	config, err := c.userKubeconfig()
	switch {
	case err != nil:
	case k.User != "":
		config, err = c.kubeconfigFor(identity{Name: k.User, Groups: k.Group}, k.TTL)
	case k.OIDC != "":
		config.AuthInfos[config.Contexts[config.CurrentContext].AuthInfo], err = c.idTokenUser(k.OIDC, k.Group, k.TTL)
	case k.Exec:
		plugin := profiles[c.Profile].plugin
		if plugin == nil {
			return fmt.Errorf("kubeconfigs of %s have no exec stanza", c.Profile)
		}
		config.AuthInfos[config.Contexts[config.CurrentContext].AuthInfo] = &api.AuthInfo{Exec: plugin(c.Name)}
	}
	if err != nil {
		return err
	}
	data, err := clientcmd.Write(*config)
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(data)
	return err
}

// kubeconfig is one for this cluster and the given credential, self-contained.
func (c *cluster) kubeconfig(ca []byte, user *api.AuthInfo) *api.Config {
	config := api.NewConfig()
	config.Clusters[c.Name] = &api.Cluster{Server: c.server(), CertificateAuthorityData: ca}
	config.AuthInfos[c.Name+"-admin"] = user
	config.Contexts[c.Name] = &api.Context{Cluster: c.Name, AuthInfo: c.Name + "-admin"}
	config.CurrentContext = c.Name
	return config
}

func certificateUser(cert, key []byte) *api.AuthInfo {
	return &api.AuthInfo{ClientCertificateData: cert, ClientKeyData: key}
}

// userKubeconfig is what a person is given of a cluster of this profile.
func (c *cluster) userKubeconfig() (*api.Config, error) {
	config, err := clientcmd.LoadFromFile(c.path("admin.kubeconfig"))
	if err != nil {
		return nil, err
	}
	if profiles[c.Profile].token {
		token, err := os.ReadFile(c.path("pki", "admin.token"))
		if err != nil {
			return nil, err
		}
		config.AuthInfos[c.Name+"-admin"] = &api.AuthInfo{Token: string(token)}
	}
	return config, nil
}

func (c *cluster) kubeconfigFor(who identity, good time.Duration) (*api.Config, error) {
	ca, err := loadAuthority(c.path("pki", "ca.crt"), c.path("pki", "ca.key"))
	if err != nil {
		return nil, err
	}
	cert, key, err := ca.issue(who, good)
	if err != nil {
		return nil, err
	}
	return c.kubeconfig(ca.pem, certificateUser(cert, key)), nil
}

// writeTokens makes the administrator's bearer token, for the profiles whose
// kubeconfigs carry one, and the file in which the API server looks it up.
func (c *cluster) writeTokens() error {
	random := make([]byte, 24)
	_, _ = rand.Read(random) // never fails
	token := hex.EncodeToString(random)
	if err := os.WriteFile(c.path("pki", "admin.token"), []byte(token), 0o600); err != nil {
		return err
	}
	line := fmt.Sprintf("%s,%s-admin,%s-admin,system:masters\n", token, c.Profile, c.Profile)
	return os.WriteFile(c.path("pki", "tokens.csv"), []byte(line), 0o600)
}

// writeKubeconfig writes a whole file or none, in a folder that it makes.
func writeKubeconfig(path string, config *api.Config) error {
	data, err := clientcmd.Write(*config)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return replaceFile(path, data)
}
