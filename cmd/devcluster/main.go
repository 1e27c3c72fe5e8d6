// Command devcluster runs disposable real Kubernetes clusters on this machine,
// for Portolan's tests and its demo.
//
// One static binary is etcd, the Kubernetes control plane, kubelet, kube-proxy,
// kubectl and kwok, and the supervisor that runs them. A cluster has either kwok
// nodes, which need no privileges and on which any pod becomes ready at once, or
// one real node, which needs root and Debian's containerd: a process in network,
// mount and pid namespaces of its own, so that it touches nothing of its host
// and that ending the one process ends everything on it.
//
// README.md has the commands; build.sh builds it.
package main

import (
	"os"
	"path/filepath"

	"github.com/alecthomas/kong"
)

// commands is the command line; the fields' tags are its help.
type commands struct {
	Up            upCommand            `cmd:"" help:"Start a cluster and wait until it is ready."`
	Down          downCommand          `cmd:"" help:"End a cluster and remove all it left."`
	List          listCommand          `cmd:"" help:"List the clusters and whether they answer."`
	Kubeconfig    kubeconfigCommand    `cmd:"" help:"Print a kubeconfig for a cluster."`
	Authenticator authenticatorCommand `cmd:"" help:"Say who answers for the tokens of a cloud's profile (aks, gke, eks)."`
	Deps          depsCommand          `cmd:"" help:"Check what a containerd node needs of this machine, or install it."`
	Kubectl       struct{}             `cmd:"" help:"kubectl; with --name NAME first, for that cluster, else as KUBECONFIG says."`

	Supervise superviseCommand `cmd:"" hidden:"" help:"Run a cluster's programs."`
	Node      nodeCommand      `cmd:"" hidden:"" help:"Be the first process of a containerd node."`
}

func main() {
	if component := components[filepath.Base(os.Args[0])]; component != nil {
		os.Exit(component())
	}
	if len(os.Args) > 1 {
		if component := components[os.Args[1]]; component != nil {
			os.Args = os.Args[1:]
			os.Exit(component())
		}
	}
	ctx := kong.Parse(&commands{},
		kong.Name("devcluster"),
		kong.Description("Disposable real Kubernetes clusters on this machine."),
		kong.UsageOnError())
	ctx.FatalIfErrorf(ctx.Run())
}
