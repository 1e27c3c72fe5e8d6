// Package cloud makes the tokens with which managed clusters are spoken to.
//
// A kubeconfig from EKS, GKE or AKS names a program that prints such a token.
// No program is run here: its command line is read (Recognise), and the token
// it would have printed is made in the process by the cloud's own library, from
// the credential that is sealed with the cluster or else from what the library
// finds on this machine. Where tokens are fetched is decided here and by this
// machine's settings, never by a kubeconfig.
package cloud
