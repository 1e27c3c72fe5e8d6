package fleet

// ClusterIdentity tells a cluster from others: the UID of a namespace there, and
// where it was read. Where the UID cannot be compared, the same destination is the
// same cluster.
type ClusterIdentity struct {
	Namespace string
	UID       string // "" = not known: any cluster may be it
	// Destination is a hash of the server with how it is reached and known. Of
	// tests that did not keep one it is the server's URL.
	Destination string
}
