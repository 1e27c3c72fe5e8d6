package cloud

import (
	"context"
	"os"
	"strings"
	"time"

	"portolan/internal/fleet"
)

// inCluster is the token of the pod that Portolan runs in.
type inCluster struct{ file string }

// InCluster returns the recipe of the token that the kubelet keeps current in
// file, and replaces before it ends.
func InCluster(file string) Recipe { return inCluster{file} }

// Kind implements Recipe.
func (inCluster) Kind() string { return "in-cluster token" }

// Cloud implements Recipe.
func (inCluster) Cloud() fleet.Cloud { return "" }

// Ambient implements Recipe. It goes to the cluster of the pod and no other.
func (inCluster) Ambient() bool { return false }

// Unknown implements Recipe.
func (inCluster) Unknown() string {
	return "The token of Portolan's own pod is another cluster's, or its service account was deleted."
}

func (inCluster) refuse(bool) *Refusal { return nil }

// reread is how long a token that was read is used: client-go's time too.
const reread = time.Minute

func (i inCluster) maker(fleet.CloudCredential, Options) (maker, error) {
	return func(context.Context) (Token, error) {
		text, err := os.ReadFile(i.file)
		if err != nil {
			return Token{}, failure(err, "Run Portolan in a pod of the cluster, with its service account's token mounted; elsewhere register another credential.",
				"There is no service account token in Portolan's own pod.")
		}
		return Token{Value: strings.TrimSpace(string(text)), Expires: time.Now().Add(reread)}, nil
	}, nil
}
