package bpf

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The commands of bpf(2) that are notified, and one of the plugin's own (enum bpf_cmd, include/uapi/linux/bpf.h).
const (
	cmdLoad    = unix.BPF_PROG_LOAD
	cmdAttach  = unix.BPF_PROG_ATTACH
	cmdDetach  = unix.BPF_PROG_DETACH
	cmdQuery   = unix.BPF_PROG_QUERY
	cmdGetByID = unix.BPF_PROG_GET_FD_BY_ID
	cmdLink    = unix.BPF_LINK_CREATE
	cmdGetInfo = unix.BPF_OBJ_GET_INFO_BY_FD
)

// bpf makes the call with an attr that T lays out; pointers in it are unsafe.Pointer, which have 64 bits wherever this
// plugin is built for.
func bpf[T any](cmd int, attr *T) (int, syscall.Errno) {
	n, _, errno := unix.Syscall(unix.SYS_BPF, uintptr(cmd), uintptr(unsafe.Pointer(attr)), unsafe.Sizeof(*attr))
	return int(n), errno
}

// progLoad is the attr of BPF_PROG_LOAD up to log_true_size, which kernels before 6.4 do not know, and do not mind
// while it is zero.
type progLoad struct {
	progType, insnCnt  uint32
	insns, license     unsafe.Pointer
	logLevel, logSize  uint32
	logBuf             unsafe.Pointer
	kernVersion, flags uint32
	name               [unix.BPF_OBJ_NAME_LEN]byte
	_, attachType      uint32 // prog_ifindex
	_                  [loadLogTrueSize - 72]byte
	logTrueSize        uint32
}

// progAttach is the attr of BPF_PROG_ATTACH up to replace_bpf_fd.
type progAttach struct {
	target, program, attachType, flags, replaced uint32
}

// progDetach is the attr of BPF_PROG_DETACH up to attach_type.
type progDetach struct {
	target, program, attachType uint32
}

// linkCreate is the attr of BPF_LINK_CREATE up to flags.
type linkCreate struct {
	program, target, attachType, _ uint32 // flags
}

// progQuery is the attr of BPF_PROG_QUERY up to revision. The kernel writes the revision whatever the size of the attr.
type progQuery struct {
	target, attachType, flags, attachFlags uint32
	ids                                    unsafe.Pointer
	count, _                               uint32
	progFlags, linkIDs, linkFlags          unsafe.Pointer
	revision                               uint64
}

// maxPrograms is room for the programs of a cgroup, of which it has 64 itself (BPF_CGROUP_MAX_PROGS), and its
// ancestors'.
const maxPrograms = 4096

// attached is what BPF_PROG_QUERY says of a cgroup's device programs.
type attached struct {
	flags    uint32 // BPF_F_ALLOW_MULTI, BPF_F_ALLOW_OVERRIDE, or none
	programs []uint32
}

// queryAttached asks for the programs attached to the cgroup that dir is a descriptor of. The errno is EBADF if it is
// none of the v2 hierarchy, whatever filesystem it is on: the kernel looks at the type first.
func queryAttached(dir int) (attached, syscall.Errno) {
	var ids [64]uint32
	q := progQuery{target: uint32(dir), attachType: unix.BPF_CGROUP_DEVICE, ids: unsafe.Pointer(&ids), count: uint32(len(ids))}
	if _, errno := bpf(cmdQuery, &q); errno != 0 {
		return attached{}, errno
	}
	return attached{q.attachFlags, ids[:min(int(q.count), len(ids))]}, 0
}

// programName is what a descriptor of a program links to in /proc/PID/fd.
const programName = "anon_inode:bpf-prog"

// programID is the id of the program that fd is a descriptor of. The errno is EINVAL if it is of something else.
func programID(fd int) (uint32, syscall.Errno) {
	info, err := readStart(fmt.Sprintf("/proc/self/fdinfo/%d", fd))
	if err != nil {
		return 0, unix.EBADF
	}
	p, errno := programOf(fd, info)
	return p.id, errno
}

// programInfo is what fdinfo says of a program.
type programInfo struct {
	id       uint32
	ofDevice bool // BPF_PROG_TYPE_CGROUP_DEVICE
}

// programOf is the program that fd, also with O_PATH, is open on, and that info is the fdinfo of a descriptor of. The
// errno is EINVAL if it is of something else.
func programOf(fd int, info string) (programInfo, syscall.Errno) {
	name, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return programInfo{}, unix.EBADF
	}
	if name != programName {
		return programInfo{}, unix.EINVAL
	}
	p, ok := parseProgramInfo(info)
	if !ok {
		return programInfo{}, unix.EINVAL
	}
	return p, 0
}

// maxInfo is more than the kernel says of a program in fdinfo. Of other files it may say megabytes.
const maxInfo = 4096

func readStart(path string) (string, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	text := make([]byte, maxInfo)
	n, err := unix.Read(fd, text)
	return string(text[:max(n, 0)]), err
}

// parseProgramInfo reads the fdinfo of a program (bpf_prog_show_fdinfo, kernel/bpf/syscall.c). That of a link names a
// program too, but not its type.
func parseProgramInfo(info string) (p programInfo, ok bool) {
	isProgram := false
	for line := range strings.Lines(info) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":\t")
		switch key {
		case "prog_type":
			isProgram, p.ofDevice = true, value == strconv.Itoa(unix.BPF_PROG_TYPE_CGROUP_DEVICE)
		case "prog_id":
			n, err := strconv.ParseUint(value, 10, 32)
			p.id = uint32(n)
			return p, isProgram && err == nil
		}
	}
	return programInfo{}, false
}

// programByID opens the program of this id; the errno is ENOENT if there is none. It takes CAP_SYS_ADMIN.
func programByID(id uint32) (int, syscall.Errno) {
	attr := struct{ id, next, flags uint32 }{id: id}
	return bpf(cmdGetByID, &attr)
}

// programExists reports whether there is a program of this id.
func programExists(id uint32) (bool, error) {
	fd, errno := programByID(id)
	switch errno {
	case 0:
		return true, unix.Close(fd)
	case unix.ENOENT:
		return false, nil
	default:
		return true, fmt.Errorf("look for program %d: %w", id, errno)
	}
}
