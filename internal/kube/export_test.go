package kube

// SetAccountDir puts the folder of a pod's service account elsewhere until
// restore is called.
func SetAccountDir(dir string) (restore func()) {
	old := accountDir
	accountDir = dir
	return func() { accountDir = old }
}
