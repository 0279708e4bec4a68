package run

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/intercede/intercede/internal/linux"
	"github.com/intercede/intercede/internal/mountinfo"
	"golang.org/x/sys/unix"
)

// mountSpec is a mount of --mount or --tmpfs.
type mountSpec struct {
	Tmpfs  bool
	Source string // of a bind mount: a path of the host
	Target string // a path of the container
	// Set and Clear are unix.MOUNT_ATTR_*. What is in neither is, in a bind mount, as the source's mount has it.
	Set, Clear uint64
	Parameters map[string]string // of a tmpfs
	// IDMap: root of the container owns what root of the host owns.
	IDMap bool
	// Laid: it is on its target already.
	Laid bool
	// File is the one that is mounted.
	File fileID

	text  string            // as it was given
	given map[string]string // the options so far, by what they are about
}

// mountsMax bounds the mounts and device nodes of one container: a message carries no more descriptors.
const mountsMax = 128

const tmpfsFlags = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC

// mountFlags are options that are attributes of a mount, and those that take one away.
var mountFlags = map[string]struct {
	attribute uint64
	off       bool
}{
	"nosuid": {attribute: unix.MOUNT_ATTR_NOSUID}, "suid": {unix.MOUNT_ATTR_NOSUID, true},
	"nodev": {attribute: unix.MOUNT_ATTR_NODEV}, "dev": {unix.MOUNT_ATTR_NODEV, true},
	"noexec": {attribute: unix.MOUNT_ATTR_NOEXEC}, "exec": {unix.MOUNT_ATTR_NOEXEC, true},
	"ro": {attribute: unix.MOUNT_ATTR_RDONLY}, "rw": {unix.MOUNT_ATTR_RDONLY, true},
	"noatime": {attribute: unix.MOUNT_ATTR_NOATIME},
}

// tmpfsOptions are those of tmpfs(5) that have a value. nr_blocks is size in other units.
var tmpfsOptions = map[string]struct {
	about string
	form  *regexp.Regexp
	want  string
}{
	"size":      {"size", regexp.MustCompile(`^[0-9]{1,18}[kmgKMG%]?$`), "a number of bytes, with k, m or g, or with %, such as 64m"},
	"nr_blocks": {"size", regexp.MustCompile(`^[0-9]{1,18}[kmgKMG]?$`), "a number, which k, m or g may follow"},
	"nr_inodes": {"nr_inodes", regexp.MustCompile(`^[0-9]{1,18}[kmgKMG]?$`), "a number, which k, m or g may follow"},
	"mode":      {"mode", regexp.MustCompile(`^[0-7]{1,4}$`), "an octal mode, such as 1777"},
	"uid":       {"uid", regexp.MustCompile(`^[0-9]{1,10}$`), "a number"},
	"gid":       {"gid", regexp.MustCompile(`^[0-9]{1,10}$`), "a number"},
}

// parseMounts reads --tmpfs DIR[:OPTION,...] and --mount type=TYPE,KEY=VALUE,... in the order in which they are
// mounted: what is above others first.
func parseMounts(tmpfs, mounts []string) ([]mountSpec, error) {
	var specs []mountSpec
	for _, text := range tmpfs {
		m, err := parseTmpfs(text)
		if err != nil {
			return nil, fmt.Errorf("tmpfs %q: %w", text, err)
		}
		m.text = fmt.Sprintf("tmpfs %q", text)
		specs = append(specs, m)
	}
	for _, text := range mounts {
		m, err := parseMount(text)
		if err != nil {
			return nil, fmt.Errorf("mount %q: %w", text, err)
		}
		m.text = fmt.Sprintf("mount %q", text)
		specs = append(specs, m)
	}
	slices.SortStableFunc(specs, func(a, b mountSpec) int { return strings.Count(a.Target, "/") - strings.Count(b.Target, "/") })
	return specs, nil
}

func isComma(c rune) bool { return c == ',' }

func parseTmpfs(text string) (mountSpec, error) {
	target, options, _ := strings.Cut(text, ":")
	m := mountSpec{Tmpfs: true, Target: target, Set: tmpfsFlags}
	for _, option := range strings.FieldsFunc(options, isComma) {
		if err := m.addOption(option, option); err != nil {
			return m, err
		}
	}
	return m, m.check()
}

func parseMount(text string) (m mountSpec, err error) {
	var options [][2]string // as given, and as addOption takes it
	for _, word := range strings.FieldsFunc(text, isComma) {
		option := word
		key, value, hasValue := strings.Cut(word, "=")
		switch key {
		case "type":
			err = m.once("type", word)
			if m.Tmpfs = value == "tmpfs"; !m.Tmpfs && value != "bind" {
				return m, fmt.Errorf("type %q: want bind or tmpfs", value)
			}
		case "source", "src":
			m.Source, err = value, m.once("source", word)
		case "destination", "dst", "target":
			m.Target, err = value, m.once("target", word)
		case "tmpfs-size", "tmpfs-mode":
			options = append(options, [2]string{word, strings.TrimPrefix(word, "tmpfs-")})
		case "readonly", "ro", "rw":
			if option, err = readOnlyOption(key, value, hasValue); err == nil {
				options = append(options, [2]string{word, option})
			}
		default:
			options = append(options, [2]string{word, word})
		}
		if err != nil {
			return m, err
		}
	}
	if m.Tmpfs {
		m.Set = tmpfsFlags
	}
	for _, option := range options {
		if err := m.addOption(option[0], option[1]); err != nil {
			return m, err
		}
	}
	return m, m.check()
}

// readOnlyOption is "ro" or "rw" for ro, readonly or rw, which may have the value true or false.
func readOnlyOption(key, value string, hasValue bool) (string, error) {
	readOnly := key != "rw"
	switch {
	case !hasValue || value == "true":
	case value == "false":
		readOnly = !readOnly
	default:
		return "", fmt.Errorf("option %s=%s: want %[1]s, %[1]s=true or %[1]s=false", key, value)
	}
	if readOnly {
		return "ro", nil
	}
	return "rw", nil
}

// once refuses a second option about one thing.
func (m *mountSpec) once(about, given string) error {
	before, twice := m.given[about]
	if twice && before == given {
		return fmt.Errorf("option %q is there twice", given)
	}
	if twice {
		return fmt.Errorf("options %q and %q exclude each other: leave one away", before, given)
	}
	if m.given == nil {
		m.given = map[string]string{}
	}
	m.given[about] = given
	return nil
}

func (m *mountSpec) addOption(given, option string) error {
	if f, known := mountFlags[option]; known {
		if f.off {
			m.Set &^= f.attribute
			m.Clear |= f.attribute
		} else {
			m.Set |= f.attribute
		}
		return m.once(fmt.Sprintf("attribute %#x", f.attribute), given)
	}
	key, value, hasValue := strings.Cut(option, "=")
	o, known := tmpfsOptions[key]
	switch {
	case known && !m.Tmpfs:
		return fmt.Errorf("option %q is one of a tmpfs, and this is a bind mount", given)
	case known && (!hasValue || !o.form.MatchString(value)):
		return fmt.Errorf("option %q: want %s=VALUE, where VALUE is %s", given, key, o.want)
	case known:
		if m.Parameters == nil {
			m.Parameters = map[string]string{}
		}
		m.Parameters[key] = value
		return m.once(o.about, given)
	case option == "idmap" && m.Tmpfs:
		return fmt.Errorf("option %q is one of a bind mount, and this is a tmpfs", given)
	case option == "idmap":
		m.IDMap = true
		return m.once("idmap", given)
	}
	return fmt.Errorf("option %q is not known", given)
}

func (m *mountSpec) check() error {
	switch {
	case !filepath.IsAbs(m.Target) || filepath.Clean(m.Target) == "/":
		return fmt.Errorf("target %q is not an absolute path below the container's root", m.Target)
	case m.Tmpfs && m.Source != "":
		return errors.New("a tmpfs has no source")
	case !m.Tmpfs && !filepath.IsAbs(m.Source):
		return fmt.Errorf("source %q is not an absolute path of the host", m.Source)
	case strings.ContainsRune(m.Source+m.Target, 0):
		return errors.New("a path contains a NUL byte")
	}
	m.Target = filepath.Clean(m.Target)
	return nil
}

// checkTargets refuses two mounts or nodes with one target, of which the container would see one.
func checkTargets(mounts []mountSpec, nodes []nodeSpec) error {
	texts := map[string]string{}
	add := func(target, text string) error {
		if before, twice := texts[target]; twice {
			return fmt.Errorf("%s and %s have the same target %s: leave one away", before, text, target)
		}
		texts[target] = text
		return nil
	}
	for _, m := range mounts {
		if err := add(m.Target, m.text); err != nil {
			return err
		}
	}
	for _, n := range nodes {
		if err := add(n.Target, n.text); err != nil {
			return err
		}
	}
	return nil
}

// String is what an error says of the mount.
func (m *mountSpec) String() string {
	if m.Tmpfs {
		return "mount a tmpfs at " + m.Target
	}
	return fmt.Sprintf("mount of %s at %s", m.Source, m.Target)
}

func (m *mountSpec) isReadOnly() bool { return m.Set&unix.MOUNT_ATTR_RDONLY != 0 }

// checkNested refuses a read-only mount within one by which the container can write to the same files: it could rename
// the mount point there, in a mount namespace where nothing is mounted on it.
func checkNested(specs []mountSpec) error {
	for _, m := range specs {
		for _, outer := range specs {
			if m.Tmpfs || outer.Tmpfs || !m.isReadOnly() || outer.isReadOnly() || !strings.HasPrefix(m.Target, outer.Target+"/") {
				continue
			}
			source, err1 := filepath.EvalSymlinks(m.Source)
			outerSource, err2 := filepath.EvalSymlinks(outer.Source)
			if err := errors.Join(err1, err2); err != nil {
				return err
			}
			if mountinfo.Within(source, outerSource) {
				return fmt.Errorf("%s is read-only, but the container could write to it by that at %s: make that one ro, or mount what is in %s one by one",
					m.String(), outer.Target, outer.Source)
			}
		}
	}
	return nil
}

// openMounts opens them as detached mounts, for a container with these IDs.
func openMounts(specs []mountSpec, userNamespace int, uids, gids idMap) (files []*os.File, err error) {
	for i := range specs {
		m := &specs[i]
		open := m.open
		if m.Tmpfs {
			open = func(int) (*os.File, error) { return m.newTmpfs(uids, gids) }
		}
		file, err := open(userNamespace)
		if err == nil {
			files = append(files, file)
			m.File, err = statID(file)
		}
		if err != nil {
			closeFiles(files...)
			return nil, fmt.Errorf("%s: %w", m.String(), explainKernel(err, "5.12"))
		}
	}
	return files, nil
}

// fileID tells files apart.
type fileID struct{ Dev, Ino uint64 }

func statID(file *os.File) (fileID, error) {
	var st unix.Stat_t
	err := unix.Fstat(int(file.Fd()), &st)
	return fileID{st.Dev, st.Ino}, err
}

// checkSeen refuses a mount that another one has covered, or that a change of the root filesystem meanwhile has brought
// elsewhere.
func checkSeen(specs []mountSpec) error {
	for _, m := range specs {
		var st unix.Stat_t
		err := unix.Stat(m.Target, &st)
		if !errors.Is(err, unix.EACCES) && (err != nil || m.File != fileID{st.Dev, st.Ino}) {
			return fmt.Errorf("%s: something else is there: name no target by a symbolic link above another one, "+
				"and let nobody change the root filesystem meanwhile", m.String())
		}
	}
	return nil
}

// open makes a detached copy of the source's mount and of those below it, with its attributes, from which nothing
// propagates.
func (m *mountSpec) open(userNamespace int) (file *os.File, err error) {
	switch {
	case m.IDMap && m.isReadOnly():
		file, err = idmappedTree(m.Source, m.Source, userNamespace, unix.AT_RECURSIVE)
	case m.IDMap:
		file, err = closedTree(m.Source, userNamespace)
	default:
		file, err = linux.CloneMount(m.Source, unix.AT_RECURSIVE)
	}
	if err != nil {
		return nil, err
	}
	if err := linux.ChangeMount(file, m.Set, m.Clear&^unix.MOUNT_ATTR_RDONLY, unix.AT_RECURSIVE); err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// newTmpfs makes one whose root directory belongs to the container's root, unless the options say otherwise.
func (m *mountSpec) newTmpfs(uids, gids idMap) (*os.File, error) {
	parameters := map[string]string{"source": "tmpfs"}
	maps.Copy(parameters, m.Parameters)
	for name, ids := range map[string]idMap{"uid": uids, "gid": gids} {
		id, err := strconv.ParseUint("0"+parameters[name], 10, 32)
		outside := -1
		if err == nil {
			outside = ids.outside(uint32(id))
		}
		if outside < 0 {
			return nil, fmt.Errorf("option %s=%d: the container has the IDs %s", name, id, ids)
		}
		parameters[name] = strconv.Itoa(outside)
	}
	return linux.NewMount("tmpfs", parameters, int(m.Set))
}

// layMounts mounts in the container what leaveStage gave.
func layMounts(specs []mountSpec, mounts []*os.File) error {
	for _, m := range specs {
		if m.Laid {
			continue
		}
		if err := layOn(mounts[0], m.Target); err != nil {
			return err
		}
		mounts = mounts[1:]
	}
	return nil
}

// layOn puts a detached mount at a path of the container, which it makes if it is missing.
func layOn(mount *os.File, path string) error {
	info, err := mount.Stat()
	if err != nil {
		return fmt.Errorf("stat %s: %w", mount.Name(), err)
	}
	point, err := openMountPoint(path, info.IsDir())
	if err != nil {
		return fmt.Errorf("make %s for a mount of %s: %w", path, mount.Name(), err)
	}
	defer point.Close()
	return linux.AttachOn(mount, point)
}
