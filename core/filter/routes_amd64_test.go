package filter

import (
	"testing"

	"github.com/intercede/intercede/internal/wire"
	"golang.org/x/sys/unix"
)

func TestResolve(t *testing.T) {
	routes, err := Resolve(append([]*wire.Manifest{plugin("old", takes("umount"), takes("socketcall"))}, shipped...))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		arch uint32
		nr   int32
		want string
	}{
		{"x86_64", unix.AUDIT_ARCH_X86_64, 133, "mknod"},
		{"i386", unix.AUDIT_ARCH_I386, 14, "mknod"},
		{"x32", unix.AUDIT_ARCH_X86_64, x32Bit | 133, "mknod"},
		{"x32, numbered otherwise is not", unix.AUDIT_ARCH_X86_64, x32Bit | 14, ""},
		{"number of another architecture", unix.AUDIT_ARCH_X86_64, 14, ""},
		{"unconditional", unix.AUDIT_ARCH_X86_64, 99, "sysinfo"},
		{"newer than libseccomp 2.5, x86_64", unix.AUDIT_ARCH_X86_64, 463, "setxattrat"},
		{"newer than libseccomp 2.5, i386", unix.AUDIT_ARCH_I386, 463, "setxattrat"},
		{"newer than libseccomp 2.5, x32", unix.AUDIT_ARCH_X86_64, x32Bit | 463, "setxattrat"},
		{"only i386 has it", unix.AUDIT_ARCH_I386, 22, "umount"},
		{"only i386 has it: x86_64 has another call there", unix.AUDIT_ARCH_X86_64, 22, ""},
		{"by its own number", unix.AUDIT_ARCH_I386, 102, "socketcall"},
		{"foreign architecture", unix.AUDIT_ARCH_AARCH64, 33, ""},
		{"no number", unix.AUDIT_ARCH_X86_64, -1, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			if name, ok := routes.Name(test.arch, test.nr, 0); name != test.want || ok != (test.want != "") {
				t.Errorf("got %q, %v, want %q", name, ok, test.want)
			}
		})
	}
}

func TestResolveRefuses(t *testing.T) {
	for _, test := range []struct {
		name, syscall string
		want          []string
	}{
		{"a slip", "mknot", []string{"plugin p", `"mknot"`, "is it mknod?"}},
		{"nothing near", "frobnicate_all", []string{"plugin p", `no architecture of this machine has a syscall "frobnicate_all"`}},
		{"another machine's", "spu_run", []string{"no architecture of this machine"}},
		{"of socketcall", "connect", []string{"plugin p: syscall connect", "socketcall(2)", "set compat"}},
		{"of ipc", "semtimedop", []string{"plugin p: syscall semtimedop", "ipc(2)", "set compat"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := Resolve([]*wire.Manifest{plugin("p", takes(test.syscall)), mknodPlugin})
			wantError(t, err, test.want...)
		})
	}
}
