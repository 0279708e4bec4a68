package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestCompat has programs of each ABI make the calls of a plugin that takes native ones alone, in containers of
// `intercede run` and of OCI runtimes, there also beside a base profile that allows the multiplexers.
func TestCompat(t *testing.T) {
	require(t, "gcc", "busybox")
	if err := goBuild("native", "./testdata/native"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(binaries + "/native") })
	s := newSite(t, fmt.Sprintf("[plugins.native]\npath = %q\n", binaries+"/native"))
	programs := filepath.Join(binaries, "abi")
	if err := os.Mkdir(programs, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(programs) })
	for name, flag := range map[string]string{"abi": "-m64", "abi32": "-m32"} {
		mustRun(t, exec.Command("gcc", flag, "-static", "-D_GNU_SOURCE", "-o", filepath.Join(programs, name), "testdata/abi/abi.c"))
	}
	const native = "connect: EXDEV\nlisten: EXDEV\nsemget: EXDEV\nsethostname: EXDEV\ngetsid: EXDEV\naccept: EXDEV\n"
	const i386 = "connect: EPERM\nlisten: EBADF\nsemget: EPERM\nsethostname: EPERM\ngetsid: ESRCH\n" +
		"socketcall connect: EPERM\nsocketcall accept: EPERM\nsocketcall listen: EBADF\nsocketcall socket: EAFNOSUPPORT\n" +
		"ipc semget: EPERM\nipc semget, version 1: EPERM\nipc shmget: EINVAL\n"
	const x32 = "connect: EPERM\n"

	t.Run("run", func(t *testing.T) {
		for command, want := range map[string]string{"abi": native, "abi32": i386, "abi x32": x32} {
			words := strings.Fields(command)
			words[0] = filepath.Join(programs, words[0])
			args := append([]string{"run", "--config", s.config(), "--"}, words...)
			if r := intercede(t, args...); !strings.HasPrefix(r.stdout, want) {
				t.Errorf("%s: %s%s, want %s", command, r.stdout, r.stderr, want)
			}
		}
	})
	s.serve(t)
	eachRuntime(t, func(t *testing.T, runtime string) {
		for name, profile := range map[string]string{
			"no base": s.profile(t), "podman's": s.profile(t, "--base", podmanBase(t, s.dir)),
		} {
			b := newBundle(t, runtime, profile, "/bin/abi; echo 32; /bin/abi32; echo x32; /bin/abi x32; echo ready")
			mustRun(t, exec.Command("cp", programs+"/abi", programs+"/abi32", b.dir+"/rootfs/bin"))
			if err := b.create(t); err != nil {
				t.Fatalf("%s: create: %v: %s", name, err, b.output(t))
			}
			mustRun(t, b.cmd("start", b.id))
			b.said(t, "ready\n")
			wantText(t, b.output(t), native+"32\n"+i386+"x32\n"+x32)
		}
	})
}

// podmanBase is podman's default profile as it gives that to an OCI runtime, but for the rules that depend on
// capabilities.
func podmanBase(t *testing.T, dir string) string {
	t.Helper()
	text, err := os.ReadFile("../../core/filter/testdata/containers-default.json")
	if err != nil {
		t.Fatal(err)
	}
	var profile struct {
		DefaultAction   string           `json:"defaultAction"`
		DefaultErrnoRet int              `json:"defaultErrnoRet"`
		Architectures   []string         `json:"architectures"`
		Syscalls        []map[string]any `json:"syscalls"`
	}
	if err := json.Unmarshal(text, &profile); err != nil {
		t.Fatal(err)
	}
	profile.Architectures = []string{"SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"}
	profile.Syscalls = slices.DeleteFunc(profile.Syscalls, func(rule map[string]any) bool {
		includes, _ := json.Marshal(rule["includes"])
		excludes, _ := json.Marshal(rule["excludes"])
		return strings.Contains(string(includes)+string(excludes), `"CAP_`) ||
			strings.Contains(string(includes), `"arches"`) && !strings.Contains(string(includes), `"amd64"`)
	})
	for _, rule := range profile.Syscalls {
		delete(rule, "includes")
		delete(rule, "excludes")
	}
	if text, err = json.Marshal(profile); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "base.json")
	if err := os.WriteFile(path, text, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}
