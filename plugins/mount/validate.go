package mount

import (
	"fmt"
	"maps"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/intercede/intercede/sdk"
	"golang.org/x/sys/unix"
)

var _ sdk.Validator = handler{}

// Validate implements sdk.Validator.
func (handler) Validate(s sdk.Settings) []sdk.Finding {
	var c config
	if err := s.Decode(&c); err != nil {
		return []sdk.Finding{{Text: err.Error()}}
	}
	here, err := readFilesystems()
	if err != nil {
		return []sdk.Finding{{Text: err.Error()}}
	}
	_, findings := c.validate(knownFilesystems(), here)
	return findings
}

// validate makes a policy of the settings, which is to be used only if nothing but warnings is found.
func (c config) validate(known map[string]filesystem, here filesystems) (*policy, []sdk.Finding) {
	v := &validation{config: c, here: here, policy: &policy{allowed: map[string]*filesystem{}, fuse: c.Fuse, shift: c.Shift}}
	for _, name := range c.Allowed {
		v.allow(name, known)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Options)) {
		v.addOptions(name, strings.Split(c.Options[name], ","))
	}
	for _, name := range slices.Sorted(maps.Keys(c.Fuse)) {
		v.checkHandler(name, c.Fuse[name])
	}
	for _, text := range c.Devices {
		v.addDevice(text)
	}
	for _, text := range c.Loop {
		v.addLoops(text)
	}
	return v.policy, v.findings
}

// validation makes a policy.
type validation struct {
	config   config
	here     filesystems
	policy   *policy
	findings []sdk.Finding
}

func (v *validation) fault(key, format string, args ...any) {
	v.findings = append(v.findings, sdk.Finding{Key: key, Text: fmt.Sprintf(format, args...)})
}

func (v *validation) warn(key, format string, args ...any) {
	v.findings = append(v.findings, sdk.Finding{Key: key, Text: fmt.Sprintf(format, args...), Warning: true})
}

func (v *validation) allow(name string, known map[string]filesystem) {
	f, listed := known[name]
	switch {
	case isOfDaemons(name):
		v.fault("allowed", "%q is the type by which FUSE daemons mount their own connection: take it out (they can, where fuse has any entry)", name)
	case withoutDevice[name], v.here.withoutDevice[name]:
		v.fault("allowed", "%q has no block device, and this plugin mounts only filesystems that have one: take it out (the kernel "+
			"itself mounts tmpfs, proc, sysfs and overlay for containers)", name)
	case v.config.Shift && servedByExt4[name] && v.config.Fuse["ext4"] != "":
		// An annotation may have moved ext4 there. One that is refused would leave ext4 to the kernel.
		v.warn("allowed", "%q is not mounted: with shift the driver of ext4 would do it, and fuse has a handler for ext4", name)
		v.policy.withoutDriver = append(v.policy.withoutDriver, name)
		return
	case v.config.Shift && servedByExt4[name] && !slices.Contains(v.config.Allowed, "ext4"):
		v.fault("allowed", "%q cannot be mounted with shift, since the kernel maps its owners by the driver of ext4 alone: list \"ext4\" too, "+
			"or set shift = false", name)
	case !listed && !v.here.withDevice[name]:
		v.warn("allowed", "%q is not a filesystem that this kernel has now (/proc/filesystems), nor one that the plugin knows: is it spelt right?", name)
	}
	if !listed {
		f = filesystem{name: name, driver: name, harmless: map[string]bool{}}
	}
	if v.config.Shift && servedByExt4[name] {
		f.driver = "ext4"
	}
	v.policy.allowed[name] = &f
}

func (v *validation) addOptions(name string, keys []string) {
	f := v.policy.allowed[name]
	switch {
	case !slices.Contains(v.config.Allowed, name):
		v.fault("options", "%q is not in allowed: list it there, or take it out", name)
		return
	case f == nil:
		return
	}
	for _, key := range keys {
		if f.refused[key] {
			v.fault("options", "option %q of %s reaches beyond the filesystem, or harms the host: it cannot be allowed, take it out", key, name)
		}
		f.harmless[key] = true
	}
}

var wholeType = regexp.MustCompile(`^(?:` + typePattern + `)$`)

func (v *validation) checkHandler(name, handler string) {
	switch {
	case !wholeType.MatchString(name):
		v.fault("fuse", "%q is not the name of a filesystem: want letters, digits, _, . and -, such as \"fuse.sshfs\"", name)
	case isOfDaemons(name):
		v.fault("fuse", "%q is the type by which FUSE daemons mount their own connection: take it out, and list the filesystem, such as "+
			"\"squashfs\" or \"fuse.sshfs\"", name)
	case forEverybody[name]:
		v.fault("fuse", "%q is mounted by the kernel for containers, and a handler would be in its way: take it out", name)
	case slices.Contains(v.config.Allowed, name):
		v.fault("fuse", "%q is in allowed too: which of the two is to mount it? Take it out of one", name)
	}
	// It is looked for in the container, where a relative path would be from nowhere.
	if strings.Contains(handler, "/") && (!path.IsAbs(handler) || path.Clean(handler) != handler) {
		v.fault("fuse", "handler %q of %s: want a name, such as \"fuse2fs\", or an absolute path in the container without . and ..", handler, name)
	} else if handler == "." || handler == ".." {
		v.fault("fuse", "handler %q of %s is a folder: want the name of a program, such as \"fuse2fs\"", handler, name)
	} else if mountsFuseblk[path.Base(handler)] {
		v.warn("fuse", "handler %q of %s mounts fuseblk, which the kernel refuses to a handler: take it out. `mount -t ntfs-3g` works in "+
			"the container where fuse has any other entry", handler, name)
	}
}

// isOfDaemons reports whether a type is that of a FUSE daemon's own mount.
func isOfDaemons(name string) bool {
	return name == "fuse" || name == fuseblk || strings.HasPrefix(name, fuseblk+".")
}

// forEverybody are filesystems that the kernel itself mounts in user namespaces (FS_USERNS_MOUNT). overlay is not among
// them here: there is a handler for it.
var forEverybody = set("binfmt_misc bpf cgroup cgroup2 devpts mqueue proc ramfs sysfs tmpfs")

// mountsFuseblk are programs that mount a block device as fuseblk.
var mountsFuseblk = set("ntfs-3g lowntfs-3g mount.ntfs mount.ntfs-3g mount.lowntfs-3g")

func (v *validation) addDevice(text string) {
	r, err := parseDevice(text)
	if err != nil {
		v.fault("devices", "%v", err)
	}
	if r.anyMajor && len(v.config.Allowed) > 0 {
		v.warn("devices", "\"*\" lets a container mount every block device that it can open, and the kernel reads what is on it: "+
			"list the devices that are meant, such as \"7:0\"")
	}
	v.policy.devices = append(v.policy.devices, r)
}

func (v *validation) addLoops(text string) {
	numbers, err := parseLoops(text)
	if err != nil {
		v.fault("loop", "%v", err)
		return
	}
	for _, n := range numbers {
		if slices.Contains(v.policy.loops, n) {
			v.fault("loop", "%d is there twice", n)
		}
		v.policy.loops = append(v.policy.loops, n)
	}
	if numbers[0] < lowLoops {
		v.warn("loop", "%q: those below %d are taken by programs of the host, and the container could then open what they set up: take "+
			"higher ones", text, lowLoops)
	}
	unlisted := func(n uint32) bool { return !v.policy.allowsDevice(unix.Mkdev(loopMajor, n)) }
	if at := slices.IndexFunc(numbers, unlisted); at >= 0 && len(v.policy.allowed) > 0 {
		v.warn("loop", "loop%d cannot be mounted: list \"%d:%d\" in devices too", numbers[at], loopMajor, numbers[at])
	}
	if len(v.policy.loops) > maxLoops {
		v.fault("loop", "these are more than %d", maxLoops)
	}
}

// withoutDevice are filesystems that need no block device, whether this kernel has their modules loaded or not.
var withoutDevice = set(`9p afs autofs binfmt_misc bpf ceph cgroup cgroup2 cifs coda configfs cpuset debugfs devpts devtmpfs ecryptfs
	efivarfs fuse fusectl hugetlbfs mqueue nfs nfs4 nfsd orangefs overlay pipefs proc pstore pvfs2 ramfs rootfs rpc_pipefs securityfs
	selinuxfs smackfs smb3 sockfs sysfs tmpfs tracefs vboxsf virtiofs`)

// filesystems are those that the kernel has now.
type filesystems struct {
	withDevice, withoutDevice map[string]bool
}

func readFilesystems() (filesystems, error) {
	text, err := os.ReadFile("/proc/filesystems")
	return parseFilesystems(string(text)), err
}

// parseFilesystems reads /proc/filesystems (proc_filesystems(5)).
func parseFilesystems(text string) filesystems {
	here := filesystems{withDevice: map[string]bool{}, withoutDevice: map[string]bool{}}
	for line := range strings.Lines(text) {
		name, needsNone := strings.CutPrefix(strings.TrimSpace(line), "nodev\t")
		if needsNone {
			here.withoutDevice[name] = true
		} else {
			here.withDevice[name] = true
		}
	}
	return here
}
