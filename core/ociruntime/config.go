package ociruntime

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/intercede/intercede/core/control"
	"github.com/intercede/intercede/core/filter"
	"github.com/intercede/intercede/core/intake/oci"
	"github.com/intercede/intercede/core/policy"
	"github.com/intercede/intercede/core/policy/config"
	"github.com/intercede/intercede/internal/linux"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// maxConfig bounds a config.json, in bytes.
const maxConfig = 16 << 20

// maxAnnotations bounds a container's annotations as JSON, in bytes: the runtime sends them with the listener, in a
// message that has the bundle's path too.
const maxAnnotations = oci.MaxMessage - 64<<10

// errUnchangeable is wrapped by the error for a config.json that is as it should be and cannot be replaced.
var errUnchangeable = errors.New("the filter cannot be added to the bundle")

// configFile is a bundle's config.json.
type configFile struct {
	path string
	info fs.FileInfo
	text []byte
	spec spec
}

// spec is what the wrapper reads of a config.json; the rest may be of any version of the specification.
type spec struct {
	Annotations map[string]string `json:"annotations"`
	Linux       *struct {
		Namespaces  []specs.LinuxNamespace `json:"namespaces"`
		CgroupsPath string                 `json:"cgroupsPath"`
		Seccomp     json.RawMessage        `json:"seccomp"`
	} `json:"linux"`
}

// seccomp is what decides whether a linux.seccomp counts.
type seccomp struct {
	DefaultAction string            `json:"defaultAction"`
	Syscalls      []json.RawMessage `json:"syscalls"`
	ListenerPath  string            `json:"listenerPath"`
}

// none: runtimes take it for no filter.
func (s seccomp) none() bool {
	return s.DefaultAction == "" && len(s.Syscalls) == 0 && s.ListenerPath == ""
}

// readConfigFile errors wrap fs.ErrNotExist if there is no such file.
func readConfigFile(path string) (*configFile, error) {
	f := &configFile{path: path}
	if err := f.read(); err != nil {
		return nil, fmt.Errorf("the bundle's %s: %w", path, err)
	}
	return f, nil
}

func (f *configFile) read() error {
	var err error
	if f.text, f.info, err = linux.ReadRegular(f.path, maxConfig); err != nil {
		return err
	}
	return json.Unmarshal(f.text, &f.spec)
}

// privileged reports whether the container will be in the host's user namespace, where the kernel itself does what most
// plugins do.
func (f *configFile) privileged() (bool, error) {
	if f.spec.Linux == nil {
		return true, nil
	}
	for _, n := range f.spec.Linux.Namespaces {
		if n.Type == specs.UserNamespace {
			return sameAsOwn(n.Path)
		}
	}
	return linux.InHostUserNamespace()
}

// sameAsOwn reports whether the container joins the user namespace that the runtime is in, and that is the host's. An
// empty path is a new one.
func sameAsOwn(path string) (bool, error) {
	if path == "" {
		return false, nil
	}
	joined, err := os.Stat(path)
	if err != nil {
		return false, nil // the real runtime says so
	}
	own, err := os.Stat("/proc/self/ns/user")
	if err != nil || !os.SameFile(joined, own) {
		return false, err
	}
	return linux.InHostUserNamespace()
}

// describe describes the container that will be made.
func (f *configFile) describe(id string) policy.Description {
	d := policy.Description{Runtime: config.RuntimeOCI, ID: id, Annotations: f.spec.Annotations}
	if path := cgroupOf(f.spec.Linux.CgroupsPath); path != "" {
		d.Cgroups = []string{path}
	}
	return d
}

// checkAnnotations makes sure that the runtime can hand over a listener of the container.
func (f *configFile) checkAnnotations() error {
	text, err := json.Marshal(f.spec.Annotations)
	if err != nil || len(text) <= maxAnnotations {
		return err
	}
	return fmt.Errorf("%s: the annotations have %d bytes, and %d are allowed where the container's filter has a listener, which is sent with them; shorten them",
		f.path, len(text), maxAnnotations)
}

// intercept makes the container notify what is wanted. A file that needs no change is not written. waitKillable reports
// whether the runtime takes the flag; it is asked only if the file is written.
func (f *configFile) intercept(wanted *control.Interception, waitKillable func() bool) error {
	if len(wanted.Manifests) == 0 {
		return nil
	}
	base := []byte(f.spec.Linux.Seccomp)
	var own seccomp
	if base != nil {
		if err := json.Unmarshal(base, &own); err != nil {
			return fmt.Errorf("%s: linux.seccomp: %w", f.path, err)
		}
	}
	if own.none() {
		base = nil
	}
	merged, err := filter.OCI(base, wanted.Manifests, filter.Listener{Path: wanted.Socket, WaitKillable: waitKillable()})
	if err != nil {
		return fmt.Errorf("%s: linux.seccomp: %w; a [[container]] rule that gives the container no plugins leaves it as it is", f.path, err)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, merged); err != nil {
		return err
	}
	text, err := replaceSeccomp(f.text, compact.Bytes())
	if err != nil {
		return fmt.Errorf("%s: %w", f.path, err)
	}
	if bytes.Equal(text, f.text) {
		return nil // an earlier start of the bundle wrote it
	}
	if err := f.replace(text); err != nil {
		return fmt.Errorf("%w: replacing %s: %w; let the runtime write to the bundle's folder, or give the container no plugins by a [[container]] rule",
			errUnchangeable, f.path, err)
	}
	return nil
}

// replace replaces a file by a new one with the same owner and mode.
func (f *configFile) replace(text []byte) error {
	name, err := f.writeBeside(text)
	if err != nil {
		return err
	}
	if err := os.Rename(name, f.path); err != nil {
		return errors.Join(err, os.Remove(name))
	}
	f.text = text
	return nil
}

// writeBeside writes a file with the same owner and mode into the same directory.
func (f *configFile) writeBeside(text []byte) (name string, err error) {
	file, err := os.CreateTemp(filepath.Dir(f.path), ".config.json-")
	if err != nil {
		return "", err
	}
	_, writeErr := file.Write(text)
	err = errors.Join(writeErr, f.copyOwner(file), file.Chmod(f.info.Mode().Perm()), file.Close())
	if err != nil {
		return "", errors.Join(err, os.Remove(file.Name()))
	}
	return file.Name(), nil
}

func (f *configFile) copyOwner(file *os.File) error {
	owner, created := f.info.Sys().(*syscall.Stat_t), &syscall.Stat_t{}
	if err := syscall.Fstat(int(file.Fd()), created); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	if owner.Uid == created.Uid && owner.Gid == created.Gid {
		return nil
	}
	return file.Chown(int(owner.Uid), int(owner.Gid))
}
