package main

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// The images every containerd node has, made here of two static programs, since
// there is no registry: our demo server, and busybox for a shell.
const (
	demoImage  = "portolan.dev/demo"
	pauseImage = "portolan.dev/pause:1"
)

// applets are the commands busybox is in the demo image, besides sh.
var applets = strings.Fields(`awk base64 basename cat chmod chown cp cut date dd df dirname du echo env expr
	false find free grep gunzip gzip head hostname id kill ln ls md5sum mkdir mktemp mv nc netstat nproc
	nslookup od pgrep ping printf ps pwd readlink realpath rm rmdir sed seq sha256sum sleep sort stat stty
	sync tail tar tee test time timeout top touch tr true tty uname uniq uptime vi watch wc wget which
	whoami xargs yes`)

// importImages waits for the node's containerd and gives it the images.
func (c *cluster) importImages(ctx context.Context) error {
	archive := c.path("images.tar")
	if err := writeImages(archive); err != nil {
		return fmt.Errorf("making the demo image: %w", err)
	}
	err := poll(ctx, 50*time.Millisecond, func() (bool, error) {
		_, err := os.Stat(c.containerdSocket())
		return err == nil, nil
	})
	if err != nil {
		return fmt.Errorf("waiting for containerd: %w", err)
	}
	var failed error
	err = poll(ctx, 500*time.Millisecond, func() (bool, error) { // its socket is there before it serves
		importing := exec.CommandContext(ctx, "ctr", "--address", c.containerdSocket(), "--namespace", "k8s.io",
			"images", "import", archive)
		importing.Env = memberEnvironment(c.dir)
		output, err := importing.CombinedOutput()
		if err != nil {
			failed = fmt.Errorf("importing the demo image: %w: %s", err, bytes.TrimSpace(output))
		}
		return err == nil, nil
	})
	if err != nil {
		return errors.Join(err, failed)
	}
	return nil
}

// writeImages writes a docker-archive of all images: one layer, and for each
// image a configuration of its own.
func writeImages(path string) error {
	layer, err := demoLayer()
	if err != nil {
		return err
	}
	diff := digest(layer)
	files := map[string][]byte{"layer.tar": layer}
	type entry struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	var manifest []entry
	add := func(name string, args []string, environment ...string) error {
		config, err := json.Marshal(map[string]any{
			"architecture": runtime.GOARCH,
			"os":           "linux",
			"config": map[string]any{
				"Entrypoint": append([]string{"/bin/demo"}, args...),
				"Env":        append([]string{"PATH=/bin", "HOME=/tmp"}, environment...),
				"WorkingDir": "/",
			},
			"rootfs":  map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + diff}},
			"history": []any{map[string]string{"created_by": "devcluster"}},
		})
		if err != nil {
			return err
		}
		file := digest(config) + ".json"
		files[file] = config
		manifest = append(manifest, entry{Config: file, RepoTags: []string{name}, Layers: []string{"layer.tar"}})
		return nil
	}
	for _, version := range []string{"1", "2"} {
		if err := add(demoImage+":"+version, nil, "VERSION="+version); err != nil {
			return err
		}
	}
	if err := add(pauseImage, []string{"pause"}); err != nil {
		return err
	}
	if files["manifest.json"], err = json.Marshal(manifest); err != nil {
		return err
	}
	archive, err := tarOf(func(w *tar.Writer) error {
		for name, data := range files {
			if err := addFile(w, name, 0o644, data); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return os.WriteFile(path, archive, 0o600)
}

// demoLayer is the file system of the images.
func demoLayer() ([]byte, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	demo, err := os.ReadFile(filepath.Join(filepath.Dir(self), "devcluster-demo"))
	if err != nil {
		return nil, fmt.Errorf("%w (build.sh puts it beside this program)", err)
	}
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		return nil, err
	}
	return tarOf(func(w *tar.Writer) error {
		for _, dir := range []struct {
			name string
			mode int64
			uid  int
		}{{"bin/", 0o755, 0}, {"etc/", 0o755, 0}, {"tmp/", 0o1777, 0}, {"home/", 0o755, 0}, {"home/node/", 0o755, 1000}, {"data/", 0o1777, 0}} {
			header := &tar.Header{Typeflag: tar.TypeDir, Name: dir.name, Mode: dir.mode, Uid: dir.uid, Gid: dir.uid}
			if err := w.WriteHeader(header); err != nil {
				return err
			}
		}
		if err := addFile(w, "bin/demo", 0o755, demo); err != nil {
			return err
		}
		if err := addFile(w, "bin/busybox", 0o755, busybox); err != nil {
			return err
		}
		for _, name := range append([]string{"sh", "ash"}, applets...) {
			header := &tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + name, Linkname: "busybox", Mode: 0o777}
			if err := w.WriteHeader(header); err != nil {
				return err
			}
		}
		passwd := "root:x:0:0:root:/tmp:/bin/sh\nnode:x:1000:1000:node:/home/node:/bin/sh\nnonroot:x:65532:65532:nonroot:/tmp:/bin/sh\n"
		if err := addFile(w, "etc/passwd", 0o644, []byte(passwd)); err != nil {
			return err
		}
		return addFile(w, "etc/group", 0o644, []byte("root:x:0:\nnode:x:1000:\nnonroot:x:65532:\n"))
	})
}

func tarOf(fill func(*tar.Writer) error) ([]byte, error) {
	var buffer bytes.Buffer
	w := tar.NewWriter(&buffer)
	if err := fill(w); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return buffer.Bytes(), nil
}

func addFile(w *tar.Writer, name string, mode int64, data []byte) error {
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: mode, Size: int64(len(data))}); err != nil {
		return err
	}
	_, err := w.Write(data)
	return err
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
