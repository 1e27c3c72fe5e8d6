package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// The kinds of node a cluster can have.
const (
	nodesKwok       = "kwok"
	nodesContainerd = "containerd"
)

// cluster is one cluster's settings, kept as cluster.json in its folder.
type cluster struct {
	Name    string
	Profile string
	Nodes   string

	APIPort      int
	EtcdPort     int
	EtcdPeerPort int
	// AuthenticatorPort is where the API server asks about tokens that it does
	// not know itself; 0 if it asks nobody.
	AuthenticatorPort int
	// IssuerPort is where the OpenID Connect issuer answers whose ID tokens the
	// API server takes; 0 if there is none.
	IssuerPort int
	// Link numbers the addresses of a containerd node: see network.go.
	Link int

	// Kubeconfig is where the user wanted the kubeconfig; empty if nowhere.
	Kubeconfig string
	// WhilePID is the process whose end ends the cluster; 0 if none.
	WhilePID int
	// Ready is set once the cluster has been seen ready.
	Ready bool

	dir string
}

var validName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$`)

var errNoCluster = errors.New("no such cluster")

// clustersDir is the folder that holds a folder per cluster: dir if given, else
// the user's choice or cache.
func clustersDir(dir string) (string, error) {
	if dir == "" {
		dir = os.Getenv("PORTOLAN_DEVCLUSTER_DIR")
	}
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("no folder for clusters (give --dir): %w", err)
		}
		dir = filepath.Join(cache, "portolan", "devcluster")
	}
	return filepath.Abs(dir)
}

// clusterDir is the folder of the cluster called name, whether it exists or not.
func clusterDir(dir, name string) (string, error) {
	if !validName.MatchString(name) {
		return "", fmt.Errorf("%q is not a cluster name: up to 40 lower-case letters, digits and inner dashes", name)
	}
	dir, err := clustersDir(dir)
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, name), nil
}

// loadCluster reads the settings of the cluster called name; errNoCluster if
// there is none.
func loadCluster(dir, name string) (*cluster, error) {
	dir, err := clusterDir(dir, name)
	if err != nil {
		return nil, err
	}
	return loadClusterAt(dir)
}

func loadClusterAt(dir string) (*cluster, error) {
	data, err := os.ReadFile(filepath.Join(dir, "cluster.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s", errNoCluster, filepath.Base(dir))
	}
	if err != nil {
		return nil, err
	}
	c := &cluster{dir: dir}
	if err := json.Unmarshal(data, c); err != nil {
		return nil, fmt.Errorf("cluster.json of %s: %w", filepath.Base(dir), err)
	}
	return c, nil
}

func (c *cluster) save() error {
	data, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	return replaceFile(c.path("cluster.json"), append(data, '\n'))
}

// replaceFile writes a whole file or none: a reader may be watching.
func replaceFile(path string, data []byte) error {
	temporary, err := os.CreateTemp(filepath.Dir(path), "."+strings.TrimPrefix(filepath.Base(path), ".")+"-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(temporary.Name()) }()
	if _, err := temporary.Write(data); err != nil {
		_ = temporary.Close()
		return err
	}
	if err := temporary.Close(); err != nil {
		return err
	}
	return os.Rename(temporary.Name(), path)
}

// path is a path in the cluster's folder.
func (c *cluster) path(elements ...string) string {
	return filepath.Join(append([]string{c.dir}, elements...)...)
}

// id names what the cluster has outside its folder; the same folder gives the
// same id, so that what a crash left can be found.
func clusterID(dir string) string {
	sum := sha256.Sum256([]byte(dir))
	return hex.EncodeToString(sum[:4])
}

func (c *cluster) server() string { return "https://127.0.0.1:" + strconv.Itoa(c.APIPort) }

func (c *cluster) real() bool { return c.Nodes == nodesContainerd }

// lockCluster keeps other ups and downs of the same folder away until the
// returned function is called.
func lockCluster(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return nil, err
	}
	path := dir + ".lock"
	for {
		file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return nil, err
		}
		if err := unix.Flock(int(file.Fd()), unix.LOCK_EX); err != nil {
			_ = file.Close()
			return nil, err
		}
		// Its last holder may have removed it meanwhile: then this lock keeps nobody away.
		held, err1 := file.Stat()
		named, err2 := os.Stat(path)
		if err1 == nil && err2 == nil && os.SameFile(held, named) {
			return func() { _ = os.Remove(path); _ = file.Close() }, nil
		}
		_ = file.Close()
	}
}

// reservation holds numbers (ports, links) that a starting cluster has chosen
// but not taken yet, by abstract sockets, which end with the process.
type reservation []net.Listener

// take finds a number from first to last that is reserved by nobody and that
// free accepts.
func (r *reservation) take(kind string, first, last int, free func(int) bool) (int, error) {
	start := os.Getpid() % (last - first + 1)
	for i := range last - first + 1 {
		n := first + (start+i)%(last-first+1)
		listener, err := net.Listen("unix", fmt.Sprintf("@portolan-devcluster-%s-%d", kind, n))
		if err != nil {
			continue
		}
		if free(n) {
			*r = append(*r, listener)
			return n, nil
		}
		_ = listener.Close()
	}
	return 0, fmt.Errorf("no free %s between %d and %d", kind, first, last)
}

// takePort finds a free TCP port below those the kernel hands out by itself.
func (r *reservation) takePort() (int, error) {
	return r.take("port", 20000, 29999, func(n int) bool {
		listener, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(n))
		if err != nil {
			return false
		}
		return listener.Close() == nil
	})
}

func (r reservation) release() {
	for _, listener := range r {
		_ = listener.Close()
	}
}
