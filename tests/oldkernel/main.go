// Oldkernel runs a program as on an older kernel: what newer ones have added is refused as an older one refuses it. So
// tests run what is done without these features, at full speed and on any kernel.
//
//	go test -exec 'oldkernel 5.15' ./sdk/target
//
// It is a seccomp filter, which sees numbers and flags, but neither files nor what pointers point to; see features. It
// needs root. The tests are told the version by INTERCEDE_TEST_KERNEL, so that those of a newer feature are skipped.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"

	"github.com/intercede/intercede/internal/linux"
	"github.com/intercede/intercede/internal/require"
	"golang.org/x/sys/unix"
)

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: oldkernel VERSION PROGRAM [ARGUMENT...]")
		os.Exit(2)
	}
	if err := execute(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "oldkernel:", err)
		os.Exit(1)
	}
}

// execute executes the command on the calling thread, which has the filter.
func execute(version string, command []string) error {
	program, err := exec.LookPath(command[0])
	if err != nil {
		return err
	}
	filter, err := filterProgram(version)
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	if err := linux.LoadFilter(filter); err != nil {
		return err
	}
	err = unix.Exec(program, command, append(os.Environ(), require.KernelEnv+"="+version))
	return fmt.Errorf("execute %s: %w", program, err)
}
