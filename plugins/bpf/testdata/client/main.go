// Command client uses device programs as real programs do, by cilium/ebpf: what it is to do is its first argument, the
// directory of a cgroup its second. It denies itself /dev/null and prints what became of it.
package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

func main() {
	tasks := map[string]func(dir string) error{
		"attach": attach, "link": attachLink, "replace": replace, "runc": runc, "broken": broken, "large": large, "map": withMap,
		"exchange": exchange, "fuse": fuse, "serve-fuse": serveFUSE, "race": race, "divide": divide,
	}
	if err := tasks[os.Args[1]](os.Args[2]); err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
}

// tryNull prints what opening /dev/null gives.
func tryNull(when string) {
	file, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	file.Close()
	var errno unix.Errno
	errors.As(err, &errno)
	fmt.Printf("%s: %d\n", when, int(errno))
}

func load(verdict int32) (*ebpf.Program, error) {
	return ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "deny_null", Type: ebpf.CGroupDevice, License: "Apache-2.0",
		Instructions: asm.Instructions{
			asm.LoadMem(asm.R2, asm.R1, 4, asm.Word),
			asm.LoadMem(asm.R3, asm.R1, 8, asm.Word),
			asm.Mov.Imm(asm.R0, 1),
			asm.JNE.Imm(asm.R2, 1, "end"),
			asm.JNE.Imm(asm.R3, 3, "end"),
			asm.Mov.Imm(asm.R0, verdict),
			asm.Return().WithSymbol("end"),
		},
	})
}

func options(dir *os.File, program *ebpf.Program) link.RawAttachProgramOptions {
	return link.RawAttachProgramOptions{
		Target: int(dir.Fd()), Program: program, Attach: ebpf.AttachCGroupDevice, Flags: unix.BPF_F_ALLOW_MULTI,
	}
}

func attach(name string) error {
	program, err := load(0)
	if err != nil {
		return err
	}
	dir, err := os.Open(name)
	if err != nil {
		return err
	}
	tryNull("before")
	if err := link.RawAttachProgram(options(dir, program)); err != nil {
		return err
	}
	tryNull("attached")
	if err := link.RawDetachProgram(link.RawDetachProgramOptions(options(dir, program))); err != nil {
		return err
	}
	tryNull("detached")
	return nil
}

func attachLink(name string) error {
	program, err := load(0)
	if err != nil {
		return err
	}
	attached, err := link.AttachCgroup(link.CgroupOptions{Path: name, Attach: ebpf.AttachCGroupDevice, Program: program})
	if err != nil {
		return err
	}
	tryNull("attached")
	harmless, err := load(1)
	if err != nil {
		return err
	}
	if err := attached.Update(harmless); err != nil {
		return err
	}
	tryNull("updated")
	return attached.Close()
}

func replace(name string) error {
	dir, err := os.Open(name)
	if err != nil {
		return err
	}
	program, err := load(0)
	if err != nil {
		return err
	}
	harmless, err := load(1)
	if err != nil {
		return err
	}
	if err := link.RawAttachProgram(options(dir, program)); err != nil {
		return err
	}
	tryNull("attached")
	with := options(dir, harmless)
	with.Anchor = link.ReplaceProgram(program)
	if err := link.RawAttachProgram(with); err != nil {
		return err
	}
	tryNull("replaced")
	return link.RawDetachProgram(link.RawDetachProgramOptions(options(dir, harmless)))
}

// runc does what runc does for a container's devices (opencontainers/cgroups, devices/ebpf_linux.go): it looks for
// programs that are attached, asks whether programs can be replaced, loads its own and attaches it.
func runc(name string) error {
	dir, err := os.Open(name)
	if err != nil {
		return err
	}
	query := link.QueryOptions{Target: int(dir.Fd()), Attach: ebpf.AttachCGroupDevice}
	before, err := link.QueryPrograms(query)
	if err != nil {
		return fmt.Errorf("query: %w", err)
	}
	fmt.Println("programs before:", len(before.Programs))
	program, err := load(0)
	if err != nil {
		return err
	}
	null, err := os.Open("/dev/null")
	if err != nil {
		return err
	}
	probe := options(null, program)
	probe.Anchor = link.ReplaceProgram(program)
	err = link.RawAttachProgram(probe)
	fmt.Println("replace is known:", !errors.Is(err, ebpf.ErrNotSupported) && !errors.Is(err, unix.EINVAL))
	if err := link.RawAttachProgram(options(dir, program)); err != nil {
		return err
	}
	after, err := link.QueryPrograms(query)
	if err != nil {
		return fmt.Errorf("query: %w", err)
	}
	info, err := program.Info()
	if err != nil {
		return err
	}
	id, _ := info.ID()
	mine := slices.ContainsFunc(after.Programs, func(p link.AttachedProgram) bool { return p.ID == id })
	fmt.Println("programs after:", len(after.Programs), mine)
	for _, p := range after.Programs {
		byID, err := ebpf.NewProgramFromID(p.ID)
		fmt.Println("by id:", err)
		byID.Close()
	}
	tryNull("attached")
	return nil
}

// broken loads a program that the verifier refuses, and prints its log.
func broken(string) error {
	_, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.CGroupDevice, License: "MIT",
		Instructions: asm.Instructions{asm.LoadMem(asm.R0, asm.R1, 100, asm.Word), asm.Return()},
	})
	var refused *ebpf.VerifierError
	if !errors.As(err, &refused) {
		return err
	}
	fmt.Printf("%d lines\n%+v\n", len(refused.Log), refused)
	return nil
}

// divide loads a program of as many divisions as the argument says, each of which the verifier makes several
// instructions of.
func divide(count string) error {
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	program := asm.Instructions{asm.Mov.Imm(asm.R2, 3), asm.Mov.Imm(asm.R3, 3)}
	for range n {
		program = append(program, asm.Div.Reg(asm.R2, asm.R3))
	}
	program = append(program, asm.Mov.Imm(asm.R0, 1), asm.Return())
	_, err = ebpf.NewProgramWithOptions(&ebpf.ProgramSpec{Type: ebpf.CGroupDevice, License: "MIT", Instructions: program},
		ebpf.ProgramOptions{LogDisabled: true})
	fmt.Println(len(program), err)
	return nil
}

// large loads a program of as many instructions as the kernel takes, and one of one more.
func large(string) error {
	program := make(asm.Instructions, 0, 1_000_001)
	for range 999_999 {
		program = append(program, asm.Mov.Imm(asm.R0, 1))
	}
	for range 2 {
		program = append(program, asm.Return())
		spec := &ebpf.ProgramSpec{Type: ebpf.CGroupDevice, License: "MIT", Instructions: program}
		_, err := ebpf.NewProgramWithOptions(spec, ebpf.ProgramOptions{LogDisabled: true})
		fmt.Println(len(program), err)
		program = slices.Insert(program[:len(program)-1], 0, asm.Mov.Imm(asm.R0, 1))
	}
	return nil
}

func withMap(string) error {
	_, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	fmt.Println("a map:", errors.Is(err, os.ErrPermission))
	return nil
}

// exchange attaches programs to a cgroup by an attr that another thread changes all the while, between one of the
// program's own type and the one next to the cgroup, where it must not come to.
func exchange(name string) error {
	program, err := load(1)
	if err != nil {
		return err
	}
	outside, err := os.Open(name + "/../sibling")
	if err != nil {
		return err
	}
	// target_fd, attach_bpf_fd, attach_type, attach_flags of BPF_PROG_ATTACH; BPF_LINK_CREATE has the first two
	// exchanged.
	attr := [4]uint32{uint32(outside.Fd()), uint32(program.FD()), 0, unix.BPF_F_ALLOW_MULTI}
	var stop atomic.Bool
	go func() {
		for !stop.Load() {
			atomic.StoreUint32(&attr[2], 0)
			atomic.StoreUint32(&attr[2], unix.BPF_CGROUP_DEVICE)
		}
	}()
	for range 200 {
		for _, command := range []uintptr{unix.BPF_PROG_ATTACH, unix.BPF_PROG_DETACH, unix.BPF_LINK_CREATE} {
			if _, _, errno := unix.Syscall(unix.SYS_BPF, command, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr)); errno == 0 {
				return fmt.Errorf("command %d succeeded", command)
			}
		}
	}
	stop.Store(true)
	return nil
}

// race attaches many programs at once.
func race(name string) error {
	dir, err := os.Open(name)
	if err != nil {
		return err
	}
	var attached atomic.Int32
	var running sync.WaitGroup
	start := make(chan struct{})
	for range 60 {
		program, err := load(1)
		if err != nil {
			return err
		}
		running.Go(func() {
			<-start
			if link.RawAttachProgram(options(dir, program)) == nil {
				attached.Add(1)
			}
		})
	}
	close(start)
	running.Wait()
	fmt.Println("attached:", attached.Load())
	return nil
}
