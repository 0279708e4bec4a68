package kernels

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/intercede/intercede/internal/require"
)

// debian is an installation of Debian with one of its kernels.
type debian struct {
	name    string // of the machine in KERNELS: its kernel's series, or its processor
	suite   string // what is installed
	image   string // the package of the kernel, with the suite that has it
	also    string // a further suite
	tooOld  bool   // the programs refuse this kernel
	small   bool   // its packages are unpacked, and no more: a script is its first process, and nothing is installed
	machine processor
}

var machines = []debian{
	{name: "5.10", suite: "bookworm", image: "linux-image-amd64/bullseye-security", also: "bullseye-security", machine: amd64,
		tooOld: true},
	{name: "6.1", suite: "bookworm", image: "linux-image-amd64", machine: amd64},
	{name: "6.12", suite: "trixie", image: "linux-image-amd64", machine: amd64},
	{name: "newest", suite: "trixie", image: "linux-image-amd64/trixie-backports", also: "trixie-backports", machine: amd64},
	{name: "arm64", suite: "trixie", image: "linux-image-arm64", machine: arm64, small: true},
}

// machine is one of the machines, or a small one: "6.1-small".
func machine(t *testing.T, name string) debian {
	t.Helper()
	name, small := strings.CutSuffix(name, "-small")
	i := slices.IndexFunc(machines, func(m debian) bool { return m.name == name })
	if i < 0 {
		t.Fatalf("KERNELS has %q: want some of 5.10, 6.1, 6.12, newest, each also with -small, and arm64", name)
	}
	m := machines[i]
	m.small = m.small || small
	return m
}

// TestKernels boots the machines one after the other.
func TestKernels(t *testing.T) {
	wanted := strings.Fields(os.Getenv("KERNELS"))
	if len(wanted) == 0 {
		require.Lacking(t, "KERNELS names no machine: see make test-kernels")
	}
	require.Root(t)
	need(t, "mmdebstrap", "mke2fs")
	limit, err := time.ParseDuration(os.Getenv("KERNELS_LIMIT") + "s")
	if err != nil {
		t.Fatalf("KERNELS_LIMIT: %v", err)
	}
	dir := os.Getenv("KERNELS_DIR")
	if dir == "" {
		dir = t.TempDir()
	}
	tests := strings.Fields(os.Getenv("KERNELS_TESTS"))
	if slices.Equal(tests, []string{"all"}) {
		tests = everyTest(t)
	}
	payloads := map[string]payload{} // by processor
	for _, name := range wanted {
		m := machine(t, name)
		need(t, m.machine.qemu[0])
		if _, made := payloads[m.machine.arch]; !made {
			payloads[m.machine.arch] = newPayload(t, m.machine, tests, limit)
		}
		t.Run(name, func(t *testing.T) {
			system := m.install(t, filepath.Join(dir, name))
			system.boot(t, payloads[m.machine.arch].disk(t, m))
		})
	}
}
