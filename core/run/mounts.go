package run

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/intercede/intercede/internal/linux"
	"golang.org/x/sys/unix"
)

// mountSpec is a mount of --mount or --tmpfs.
type mountSpec struct {
	Tmpfs  bool
	Source string // of a bind mount: a path of the host
	Target string // a path of the container
	Flags  uintptr
	Data   string // of a tmpfs
	// IDMap: root of the container owns what root of the host owns.
	IDMap    bool
	ReadOnly bool // of a bind mount
}

// mountsMax bounds the mounts and device nodes of one container: a message carries no more descriptors.
const mountsMax = 128

const tmpfsFlags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC

// mountFlags are options that are flags of mount(2), and those that take one away.
var mountFlags = map[string]struct {
	flag uintptr
	off  bool
}{
	"nosuid": {flag: unix.MS_NOSUID}, "suid": {unix.MS_NOSUID, true}, "nodev": {flag: unix.MS_NODEV}, "dev": {unix.MS_NODEV, true},
	"noexec": {flag: unix.MS_NOEXEC}, "exec": {unix.MS_NOEXEC, true}, "ro": {flag: unix.MS_RDONLY}, "rw": {unix.MS_RDONLY, true},
	"noatime": {flag: unix.MS_NOATIME},
}

// tmpfsOptions are those of tmpfs(5) that have a value.
var tmpfsOptions = []string{"size", "mode", "nr_inodes", "nr_blocks", "uid", "gid"}

// parseMounts reads --tmpfs DIR[:OPTION,...] and --mount type=TYPE,KEY=VALUE,... in the order in which they are
// mounted: what is above others first.
func parseMounts(tmpfs, mounts []string) ([]mountSpec, error) {
	var specs []mountSpec
	for _, text := range tmpfs {
		target, options, _ := strings.Cut(text, ":")
		m := mountSpec{Tmpfs: true, Target: target, Flags: tmpfsFlags}
		err := m.addOptions(strings.FieldsFunc(options, isComma))
		if err == nil {
			err = m.check()
		}
		if err != nil {
			return nil, fmt.Errorf("tmpfs %q: %w", text, err)
		}
		specs = append(specs, m)
	}
	for _, text := range mounts {
		m, err := parseMount(text)
		if err != nil {
			return nil, fmt.Errorf("mount %q: %w", text, err)
		}
		specs = append(specs, m)
	}
	slices.SortStableFunc(specs, func(a, b mountSpec) int { return strings.Count(a.Target, "/") - strings.Count(b.Target, "/") })
	return specs, nil
}

func isComma(c rune) bool { return c == ',' }

func parseMount(text string) (m mountSpec, err error) {
	kind := "bind"
	var options []string
	for _, word := range strings.FieldsFunc(text, isComma) {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "type":
			kind = value
		case "source", "src":
			m.Source = value
		case "destination", "dst", "target":
			m.Target = value
		case "tmpfs-size":
			options = append(options, "size="+value)
		case "tmpfs-mode":
			options = append(options, "mode="+value)
		case "readonly", "ro":
			options = append(options, readOnlyWord(value))
		default:
			options = append(options, word)
		}
	}
	switch kind {
	case "tmpfs":
		m.Tmpfs, m.Flags = true, tmpfsFlags
	case "bind":
	default:
		return m, fmt.Errorf("type %q: want bind or tmpfs", kind)
	}
	if err := m.addOptions(options); err != nil {
		return m, err
	}
	return m, m.check()
}

// readOnlyWord is what ro=VALUE says.
func readOnlyWord(value string) string {
	if value == "" || value == "true" {
		return "ro"
	}
	return "rw"
}

func (m *mountSpec) addOptions(options []string) error {
	for _, option := range options {
		key, _, hasValue := strings.Cut(option, "=")
		switch f, known := mountFlags[option]; {
		case known && f.off:
			m.Flags &^= f.flag
		case known:
			m.Flags |= f.flag
		case m.Tmpfs && hasValue && slices.Contains(tmpfsOptions, key):
			m.Data = strings.TrimPrefix(m.Data+","+option, ",")
		case !m.Tmpfs && option == "idmap":
			m.IDMap = true
		default:
			return fmt.Errorf("option %q is not known", option)
		}
	}
	return nil
}

func (m *mountSpec) check() error {
	switch {
	case !filepath.IsAbs(m.Target) || filepath.Clean(m.Target) == "/":
		return fmt.Errorf("target %q is not an absolute path below the container's root", m.Target)
	case m.Tmpfs && m.Source != "":
		return errors.New("a tmpfs has no source")
	case !m.Tmpfs && !filepath.IsAbs(m.Source):
		return fmt.Errorf("source %q is not an absolute path of the host", m.Source)
	}
	m.Target = filepath.Clean(m.Target)
	if !m.Tmpfs {
		m.ReadOnly = m.Flags&unix.MS_RDONLY != 0
	}
	return nil
}

// openSources opens the sources of the bind mounts, as detached mounts, in their order.
func openSources(specs []mountSpec, userNamespace int) (files []*os.File, err error) {
	for _, m := range specs {
		if m.Tmpfs {
			continue
		}
		file, err := m.openSource(userNamespace)
		if err != nil {
			closeFiles(files...)
			return nil, fmt.Errorf("mount of %s at %s: %w", m.Source, m.Target, explainKernel(err, "5.12"))
		}
		files = append(files, file)
	}
	return files, nil
}

func (m *mountSpec) openSource(userNamespace int) (file *os.File, err error) {
	if m.ReadOnly {
		linux.OnThread(func() { file, err = m.openReadOnly(userNamespace) })
		return file, err
	}
	return m.clone(userNamespace, unix.AT_RECURSIVE)
}

// clone is a detached copy of the source's mount, with its flags, from which nothing propagates.
func (m *mountSpec) clone(userNamespace int, recursive uint) (*os.File, error) {
	if m.IDMap {
		file, err := idmappedTree(m.Source, userNamespace, recursive)
		if err == nil {
			err = linux.SetMount(file, m.attributes(), 0)
		}
		return file, err
	}
	file, err := linux.CloneMount(m.Source, recursive)
	if err == nil {
		err = linux.SetMount(file, m.attributes(), recursive)
	}
	return file, err
}

// attributes are the flags, but for read-only, as attributes of mount_setattr(2).
func (m *mountSpec) attributes() (attributes uint64) {
	for flag, attribute := range map[uintptr]uint64{
		unix.MS_NOSUID: unix.MOUNT_ATTR_NOSUID, unix.MS_NODEV: unix.MOUNT_ATTR_NODEV, unix.MS_NOEXEC: unix.MOUNT_ATTR_NOEXEC,
	} {
		if m.Flags&flag != 0 {
			attributes |= attribute
		}
	}
	return attributes
}

// openReadOnly makes an overlay without an upper layer of the source, without the mounts below it. The container can
// change the flags of its own mounts, but not a superblock that the initial user namespace owns.
//
// It changes the calling thread's mount namespace, working directory and umask.
func (m *mountSpec) openReadOnly(userNamespace int) (*os.File, error) {
	if info, err := os.Stat(m.Source); err != nil || !info.IsDir() {
		return nil, errors.Join(err, errors.New("only a directory can be mounted read-only: the container could make a file's mount writable"))
	}
	lower, err := m.clone(userNamespace, 0)
	if err != nil {
		return nil, err
	}
	defer lower.Close()
	if err := enterScratch(); err != nil {
		return nil, err
	}
	for _, name := range []string{"lower", "empty"} {
		if err := unix.Mkdir(name, 0o755); err != nil {
			return nil, fmt.Errorf("make directory %s: %w", name, err)
		}
	}
	if err := linux.Attach(lower, "lower"); err != nil {
		return nil, err
	}
	return linux.NewMount("overlay", map[string]string{"source": "intercede", "lowerdir": "lower:empty"}, int(m.attributes()))
}

// layMounts mounts them in the container, with the sources that openSources gave.
func layMounts(specs []mountSpec, sources []*os.File) error {
	for _, m := range specs {
		if m.Tmpfs {
			if err := os.MkdirAll(m.Target, 0o755); err != nil {
				return err
			}
			if err := unix.Mount("tmpfs", m.Target, "tmpfs", m.Flags, m.Data); err != nil {
				return fmt.Errorf("mount a tmpfs at %s: %w", m.Target, err)
			}
			continue
		}
		source := sources[0]
		sources = sources[1:]
		if err := makeMountPoint(source, m.Target); err != nil {
			return err
		}
		if err := linux.Attach(source, m.Target); err != nil {
			return err
		}
	}
	return nil
}

// makeMountPoint makes a directory or an empty file for a mount to be on, unless there is one.
func makeMountPoint(mount *os.File, path string) error {
	info, err := mount.Stat()
	if err != nil {
		return fmt.Errorf("stat %s: %w", mount.Name(), err)
	}
	if info.IsDir() {
		return os.MkdirAll(path, 0o755)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o666)
	if err != nil {
		return fmt.Errorf("make %s: %w", path, err)
	}
	return file.Close()
}
