package kernels

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/intercede/intercede/internal/require"
)

// debian is an installation of Debian with one of its kernels.
type debian struct {
	kernel  string   // its series, by which KERNELS names the machine
	suite   string   // what is installed
	image   string   // the package of the kernel, with the suite that has it
	sources []string // further suites
	tooOld  bool     // the programs refuse this kernel
}

var machines = []debian{
	{kernel: "5.10", suite: "bookworm", image: "linux-image-amd64/bullseye-security", sources: []string{"bullseye-security"}, tooOld: true},
	{kernel: "6.1", suite: "bookworm", image: "linux-image-amd64"},
	{kernel: "6.12", suite: "trixie", image: "linux-image-amd64"},
	{kernel: "newest", suite: "trixie", image: "linux-image-amd64/trixie-backports", sources: []string{"trixie-backports"}},
}

// TestKernels boots the machines one after the other.
func TestKernels(t *testing.T) {
	wanted := strings.Fields(os.Getenv("KERNELS"))
	if len(wanted) == 0 {
		require.Lacking(t, "KERNELS names no machine: see make test-kernels")
	}
	require.Root(t)
	need(t, "qemu-system-x86_64", "mmdebstrap", "mke2fs")
	limit, err := time.ParseDuration(os.Getenv("KERNELS_LIMIT") + "s")
	if err != nil {
		t.Fatalf("KERNELS_LIMIT: %v", err)
	}
	dir := os.Getenv("KERNELS_DIR")
	if dir == "" {
		dir = t.TempDir()
	}
	tests := strings.Fields(os.Getenv("KERNELS_TESTS"))
	payload := newPayload(t, tests, limit)
	for _, name := range wanted {
		t.Run(name, func(t *testing.T) {
			for _, m := range machines {
				if m.kernel == name {
					system := m.install(t, filepath.Join(dir, name))
					system.boot(t, payload.disk(t, m), time.Duration(len(tests)+8)*limit)
					return
				}
			}
			t.Errorf("KERNELS has %q: want some of 5.10, 6.1, 6.12 and newest", name)
		})
	}
}
