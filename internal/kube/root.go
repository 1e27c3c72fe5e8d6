package kube

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"unicode"

	"portolan/internal/fleet"
)

// Root is the mounted folder of kubeconfigs. Nothing outside it is ever read,
// whatever a path or a symbolic link says. The folder is opened anew for each
// use, so one that is missing at start counts once it appears.
type Root struct {
	dir string

	mu        sync.Mutex
	inspected map[inspectedFile]Inspection // by the latest List
}

// OpenRoot returns the Root at dir, which need not exist yet.
func OpenRoot(dir string) *Root {
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	return &Root{dir: dir}
}

// Dir returns the folder's absolute path, for texts and starting values.
func (r *Root) Dir() string { return r.dir }

// usualDir is where the root is in the container. The forms and the
// documentation write paths below it, so it stands for the root wherever that is.
const usualDir = "/kubeconfigs"

// Clean turns what a person typed, absolute inside the root, below /kubeconfigs
// or relative, into the relative path that is stored. The file need not exist.
// Its errors are fleet.Errors for the field kubeconfig_path.
func (r *Root) Clean(typed string) (string, error) {
	rel, complaint := r.relative(typed)
	if complaint != "" {
		return "", pathError(complaint, nil)
	}
	return rel, nil
}

func (r *Root) relative(typed string) (rel, complaint string) {
	switch {
	case strings.TrimSpace(typed) == "":
		return "", "Give the path of a kubeconfig below " + r.dir + "."
	case len(typed) > 512:
		return "", "The path is longer than 512 bytes."
	case strings.ContainsFunc(typed, unicode.IsControl):
		return "", "The path contains control characters."
	}
	rel = filepath.ToSlash(typed)
	if path.IsAbs(rel) {
		inside, ok := below(r.dir, rel)
		if !ok {
			if real, err := filepath.EvalSymlinks(r.dir); err == nil {
				inside, ok = below(real, rel)
			}
		}
		if !ok {
			inside, ok = below(usualDir, rel)
		}
		if !ok {
			return "", "The path is outside the kubeconfigs folder, " + r.dir + "."
		}
		rel = inside
	}
	for part := range strings.SplitSeq(rel, "/") {
		if part == ".." {
			return "", "The path may not contain “..”."
		}
	}
	rel = path.Clean(rel)
	if rel == "." || !filepath.IsLocal(rel) {
		return "", "The path must name a file below " + r.dir + "."
	}
	return rel, ""
}

// below returns file as seen from dir.
func below(dir, file string) (string, bool) {
	rel, ok := strings.CutPrefix(file, strings.TrimSuffix(filepath.ToSlash(dir), "/")+"/")
	return rel, ok && rel != ""
}

// Read returns the bytes of one regular file of at most 1 MiB. Its errors are
// fleet.Errors for the field kubeconfig_path.
func (r *Root) Read(rel string) ([]byte, error) {
	rel, err := r.Clean(rel)
	if err != nil {
		return nil, err
	}
	raw, err := r.read(rel)
	if err != nil {
		return nil, pathError(whyUnreadable(rel, err), err)
	}
	return raw, nil
}

// Kubeconfig is Read with the certificates, keys and tokens that the file
// refers to put in their place, so that the bytes, and the hash of them, stand
// for the whole credential. A reference that cannot be followed is left as it
// is: Parse says what is wrong with it if it matters. So are those that would
// make of a file, which may name another thousands of times, more than may be
// read.
func (r *Root) Kubeconfig(rel string) ([]byte, error) {
	raw, err := r.Read(rel)
	if err != nil {
		return nil, err
	}
	return r.whole(rel, raw), nil
}

// whole is the kubeconfig at rel, raw, with what it refers to in its place.
func (r *Root) whole(rel string, raw []byte) []byte {
	left := MaxKubeconfigBytes
	return inline(raw, func(ref string) ([]byte, error) {
		if left < 0 {
			return nil, errTooLarge
		}
		content, err := r.reference(rel, ref)
		if left -= len(content); err == nil && left < 0 {
			err = errTooLarge
		}
		return content, err
	})
}

// reference reads a file that the kubeconfig at rel names.
func (r *Root) reference(rel, ref string) ([]byte, error) {
	if !path.IsAbs(ref) {
		ref = path.Join(path.Dir(rel), ref)
	}
	clean, complaint := r.relative(ref)
	if complaint != "" {
		return nil, errOutside
	}
	return r.read(clean)
}

var (
	errOutside    = errors.New("outside the kubeconfigs folder")
	errNotRegular = errors.New("not a regular file")
	errTooLarge   = errors.New("larger than 1 MiB")
)

func (r *Root) read(rel string) ([]byte, error) {
	root, err := os.OpenRoot(r.dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return readRegular(root, rel)
}

// readRegular opens without blocking, so that a FIFO put there cannot hold us.
func readRegular(root *os.Root, rel string) ([]byte, error) {
	file, err := root.OpenFile(filepath.FromSlash(rel), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errNotRegular
	}
	if info.Size() > MaxKubeconfigBytes {
		return nil, errTooLarge
	}
	var raw bytes.Buffer
	raw.Grow(int(info.Size()) + bytes.MinRead) // it is read for every list of clusters
	if _, err := raw.ReadFrom(io.LimitReader(file, MaxKubeconfigBytes+1)); err != nil {
		return nil, err
	}
	if raw.Len() > MaxKubeconfigBytes { // it grows
		return nil, errTooLarge
	}
	return raw.Bytes(), nil
}

// whyUnreadable says in a sentence why rel could not be read.
func whyUnreadable(rel string, err error) string {
	name := "“" + rel + "”"
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "There is no file " + name + " in the kubeconfigs folder."
	case errors.Is(err, fs.ErrPermission):
		return "Portolan may not read " + name + "; make it readable for the user it runs as."
	case errors.Is(err, errNotRegular), errors.Is(err, syscall.EISDIR):
		return name + " is not a regular file."
	case errors.Is(err, errTooLarge):
		return name + " is larger than 1 MiB."
	case errors.Is(err, errOutside), strings.Contains(err.Error(), "escapes"): // os.Root has no exported error for it
		return name + " leads out of the kubeconfigs folder."
	case errors.Is(err, syscall.ELOOP):
		return name + " is a symbolic link that leads nowhere."
	default:
		return name + " cannot be read."
	}
}

func pathError(message string, cause error) *fleet.Error {
	return &fleet.Error{
		Code:     fleet.CodeInvalid,
		Message:  message,
		Problems: fleet.Problems{"kubeconfig_path": message},
		Err:      cause,
	}
}
