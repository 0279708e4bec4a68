package mount

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/intercede/intercede/sdk"
	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

// The broker keeps, for the next process of the plugin, which superblocks this one has made for a container. The number
// of a superblock is another's as soon as it is gone, and nobody has watched it meanwhile. So the next process knows a
// superblock by a mount of it: the kernel gives the id of a mount once (STATX_MNT_ID_UNIQUE, kernel 6.8), and a mount
// is of one superblock as long as it is there. On older kernels, and where no such mount is found, the superblock
// counts as somebody else's.

// keptSuperblock is one that was made for the container.
type keptSuperblock struct {
	Filesystem string   `json:"filesystem"`
	Source     string   `json:"source"` // as the caller gave it
	Device     uint64   `json:"device"` // the source's
	Number     uint64   `json:"number"` // the superblock's
	ReadOnly   bool     `json:"read_only,omitempty"`
	Mounts     []uint64 `json:"mounts"` // their ids
}

const (
	// superblockKey is the key of a superblock's entry, with st_dev.
	superblockKey = "superblock %x"
	// maxKeptMounts is how many mounts of a superblock are kept, the last ones.
	maxKeptMounts = 16
	// maxRevived is how many mounts of a container are looked at for one that is kept.
	maxRevived = 64
)

// parseKept gives the superblocks that are kept, by st_dev.
func parseKept(entries map[string][]byte) map[uint64]keptSuperblock {
	left := map[uint64]keptSuperblock{}
	for key, value := range entries {
		var dev uint64
		var k keptSuperblock
		if n, _ := fmt.Sscanf(key, superblockKey, &dev); n == 1 && json.Unmarshal(value, &k) == nil {
			left[dev] = k
		}
	}
	return left
}

// keepMount keeps the superblock that a new mount is of, if it is known, and that it has this mount.
func (s *session) keepMount(ctx context.Context, req *sdk.Request, m *made) {
	sb, err := s.mounted.get(m.dev)
	if sb == nil || err != nil {
		return
	}
	if id, unique := mountIdentity(m.mount); unique {
		s.mounted.note(sb, id)
	}
	s.keep(ctx, req, sb)
}

// keep keeps a superblock as it is now. What cannot be kept is lost with this process.
func (s *session) keep(ctx context.Context, req *sdk.Request, sb *superblock) {
	value, err := json.Marshal(keptSuperblock{
		Filesystem: sb.filesystem.name, Source: sb.source.name, Device: sb.source.dev, Number: sb.number,
		ReadOnly: sb.readOnly.Load(), Mounts: s.mounted.mountsOf(sb),
	})
	if err == nil {
		err = req.Keep(ctx, fmt.Sprintf(superblockKey, sb.dev), value)
	}
	if err != nil {
		s.warn("a superblock is not the container's any more after a restart of the plugin: %v", err)
	}
}

// mountIdentity is the id of the mount that an open file is on, and reports whether no other mount ever has it.
func mountIdentity(fd int) (id uint64, unique bool) {
	var st unix.Statx_t
	err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_MNT_ID|unix.STATX_MNT_ID_UNIQUE, &st)
	return st.Mnt_id, err == nil && st.Mask&unix.STATX_MNT_ID_UNIQUE != 0
}

// revive knows the superblock of an open file again, if an earlier process made the mount that the file is on. While it
// is open, the superblock is the one that was kept.
func (s *session) revive(fd int, dev uint64) (*superblock, error) {
	k, ok := s.left[dev]
	if !ok {
		return nil, nil
	}
	filesystem := s.policy.allowed[k.Filesystem]
	id, unique := mountIdentity(fd)
	if filesystem == nil || !unique || !slices.Contains(k.Mounts, id) {
		return nil, nil
	}
	sb := superblock{
		filesystem: filesystem, source: &source{k.Source, k.Device}, number: k.Number, readOnly: &atomic.Bool{}, mounts: k.Mounts,
	}
	sb.readOnly.Store(k.ReadOnly)
	if err := s.mounted.add(dev, sb, fd); err != nil {
		return nil, err
	}
	return s.mounted.get(dev)
}

// reviveDevice knows the superblocks again that earlier processes made of a device, if the caller has mounts of them.
func (s *session) reviveDevice(ctx context.Context, caller *target.Target, device uint64) error {
	for dev, k := range s.left {
		if k.Device != device {
			continue
		}
		if err := s.reviveNumber(ctx, caller, dev); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) reviveNumber(ctx context.Context, caller *target.Target, dev uint64) error {
	mountinfo, err := caller.OpenMountinfo()
	if err != nil {
		return err
	}
	defer unix.Close(mountinfo)
	var points []string
	err = eachMount(ctx, &fromStart{fd: mountinfo}, func(l mountLine) bool {
		if l.dev == devText(dev) {
			points = append(points, l.point)
		}
		return len(points) < maxRevived
	})
	for _, point := range points {
		if err != nil {
			return err
		}
		err = s.reviveAt(ctx, caller, unescape(point), dev)
	}
	return err
}

func (s *session) reviveAt(ctx context.Context, caller *target.Target, point string, dev uint64) error {
	at, err := openPath(ctx, caller, point)
	if isRefusal(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer at.Close()
	_, _, err = s.superblockAt(int(at.Fd()))
	return err
}

// unescape is a path as it is: mountinfo has some bytes as octal numbers (proc_pid_mountinfo(5)).
func unescape(text string) string {
	before, after, escaped := strings.Cut(text, `\`)
	if !escaped || len(after) < 3 {
		return text
	}
	code, err := strconv.ParseUint(after[:3], 8, 8)
	if err != nil {
		return text
	}
	return before + string([]byte{byte(code)}) + unescape(after[3:])
}
