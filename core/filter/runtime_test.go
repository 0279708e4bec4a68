package filter

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/intercede/intercede/internal/cbpf/cbpftest"
	libseccomp "github.com/seccomp/libseccomp-golang"
	"golang.org/x/sys/unix"
)

// call is what a filter sees of one system call.
type call struct {
	arch uint32
	nr   int32
	args [6]uint64
}

func run(vm cbpftest.VM, c call) uint32 { return vm.Run(c.arch, c.nr, c.args) }

const (
	notify = uint32(unix.SECCOMP_RET_USER_NOTIF)
	allow  = uint32(unix.SECCOMP_RET_ALLOW)
)

// runtimeProfile is what runtimes read of a profile.
type runtimeProfile struct {
	DefaultAction   string
	DefaultErrnoRet *int16
	Architectures   []string
	ArchMap         []struct {
		Architecture     string
		SubArchitectures []string
	}
	ListenerPath string
	Syscalls     []struct {
		Name     string
		Names    []string
		Action   string
		ErrnoRet *int16
		Args     []comparison
		Includes struct{ Caps, Arches []string }
		Excludes struct{ Caps, Arches []string }
	}
}

// compile makes the program of a profile as podman and runc together do, for a container with these capabilities
// (setupSeccomp in containers-common, InitSeccomp and matchCall in runc). It fails where runc would.
func compile(text []byte, caps []string) ([]unix.SockFilter, error) {
	var p runtimeProfile
	if err := json.Unmarshal(text, &p); err != nil {
		return nil, err
	}
	fallback := runtimeAction(p.DefaultAction, p.DefaultErrnoRet)
	filter, err := libseccomp.NewFilter(fallback)
	if err != nil {
		return nil, err
	}
	defer filter.Release()
	for _, m := range p.ArchMap {
		if m.Architecture == "SCMP_ARCH_X86_64" {
			p.Architectures = append([]string{m.Architecture}, m.SubArchitectures...)
		}
	}
	for _, name := range p.Architectures {
		i := slices.IndexFunc(architectures, func(a architecture) bool { return a.profile == name })
		if i < 0 {
			return nil, fmt.Errorf("architecture %q", name)
		}
		if err := filter.AddArch(architectures[i].scmp); err != nil {
			return nil, err
		}
	}
	for i, s := range p.Syscalls {
		has := func(c string) bool { return slices.Contains(caps, c) }
		lacks := func(c string) bool { return !has(c) }
		if slices.ContainsFunc(s.Excludes.Caps, has) || slices.ContainsFunc(s.Includes.Caps, lacks) {
			continue
		}
		if slices.Contains(s.Excludes.Arches, "amd64") || len(s.Includes.Arches) > 0 && !slices.Contains(s.Includes.Arches, "amd64") {
			continue
		}
		if s.Name != "" {
			s.Names = append(s.Names, s.Name)
		}
		action := runtimeAction(s.Action, s.ErrnoRet)
		if action == fallback {
			continue
		}
		for _, name := range s.Names {
			number, err := libseccomp.GetSyscallFromName(name)
			if err != nil {
				continue
			}
			if err := addRuntimeRule(filter, number, action, s.Args); err != nil {
				return nil, fmt.Errorf("syscalls[%d]: %s: %w", i, name, err)
			}
		}
	}
	return export(filter)
}

// export gives the filter's program. libseccomp before 2.6 exports to descriptors only.
func export(filter *libseccomp.ScmpFilter) ([]unix.SockFilter, error) {
	fd, err := unix.MemfdCreate("seccomp", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "seccomp")
	defer file.Close()
	if err := filter.ExportBPF(file); err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.NewSectionReader(file, 0, 1<<20))
	if err != nil {
		return nil, err
	}
	program := make([]unix.SockFilter, len(text)/binary.Size(unix.SockFilter{}))
	return program, binary.Read(bytes.NewReader(text), binary.NativeEndian, program)
}

func runtimeAction(name string, errno *int16) libseccomp.ScmpAction {
	switch name {
	case "SCMP_ACT_ALLOW":
		return libseccomp.ActAllow
	case "SCMP_ACT_NOTIFY":
		return libseccomp.ActNotify
	case "SCMP_ACT_LOG":
		return libseccomp.ActLog
	case "SCMP_ACT_KILL_PROCESS":
		return libseccomp.ActKillProcess
	case "SCMP_ACT_ERRNO":
		if errno == nil {
			return libseccomp.ActErrno.SetReturnCode(int16(unix.EPERM))
		}
		return libseccomp.ActErrno.SetReturnCode(*errno)
	default:
		panic("no such action: " + name)
	}
}

func addRuntimeRule(filter *libseccomp.ScmpFilter, number libseccomp.ScmpSyscall, action libseccomp.ScmpAction, args []comparison) error {
	if len(args) == 0 {
		return filter.AddRule(number, action)
	}
	operators := map[string]libseccomp.ScmpCompareOp{
		"SCMP_CMP_NE": libseccomp.CompareNotEqual, "SCMP_CMP_EQ": libseccomp.CompareEqual,
		"SCMP_CMP_GT": libseccomp.CompareGreater, "SCMP_CMP_GE": libseccomp.CompareGreaterEqual,
		"SCMP_CMP_LT": libseccomp.CompareLess, "SCMP_CMP_LE": libseccomp.CompareLessOrEqual,
		"SCMP_CMP_MASKED_EQ": libseccomp.CompareMaskedEqual,
	}
	var conditions []libseccomp.ScmpCondition
	seen := map[uint32]bool{}
	twice := false
	for _, a := range args {
		c, err := libseccomp.MakeCondition(uint(a.Index), operators[a.Op], a.Value, a.ValueTwo)
		if err != nil {
			return err
		}
		conditions = append(conditions, c)
		twice = twice || seen[a.Index]
		seen[a.Index] = true
	}
	if !twice {
		return filter.AddRuleConditional(number, action, conditions)
	}
	for _, c := range conditions {
		if err := filter.AddRuleConditional(number, action, []libseccomp.ScmpCondition{c}); err != nil {
			return err
		}
	}
	return nil
}
