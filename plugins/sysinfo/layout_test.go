package sysinfo

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/intercede/intercede/sdk"
	"github.com/intercede/intercede/sdk/sdktest"
	"golang.org/x/sys/unix"
)

const gib = 1 << 30

// sample has another value in every field.
var sample = sysinfo{
	uptime: 12345,
	loads:  [3]uint64{1 << 16, 2<<16 + 7, 3 << 15},
	memory: memory{total: 64 << 20, free: 33 << 20, shared: 5 << 20},
	swap:   swap{total: 9 << 20, free: 8 << 20},
	procs:  17,
}

func large() sysinfo {
	s := sample
	s.memory = memory{total: 24 * gib, free: 20*gib + 4096, shared: 3 * gib}
	s.swap = swap{total: 6 * gib, free: 5*gib + 8192}
	return s
}

func TestEncode64(t *testing.T) {
	b := sample.encode(sdk.ArchX86_64)
	if len(b) != 112 {
		t.Fatalf("%d bytes, want 112", len(b))
	}
	want := map[int]uint64{
		0: 12345, 8: 1 << 16, 16: 2<<16 + 7, 24: 3 << 15, 32: 64 << 20, 40: 33 << 20, 48: 5 << 20, 56: 0,
		64: 9 << 20, 72: 8 << 20, 80: 17, 88: 0, 96: 0, 104: 1,
	}
	for offset, v := range want {
		if got := binary.LittleEndian.Uint64(b[offset:]); got != v {
			t.Errorf("at %d: %d, want %d", offset, got, v)
		}
	}
}

func TestEncode32(t *testing.T) {
	big := large()
	swapOnly := sample
	swapOnly.swap = swap{total: 4 * gib, free: 4096}
	edge := sample
	edge.memory = memory{total: math.MaxUint32, free: math.MaxUint32}
	huge := sample
	huge.memory = memory{total: math.MaxUint64}
	for name, c := range map[string]struct {
		in          sysinfo
		total, free uint32
		swapTotal   uint32
		unit        uint32
	}{
		"fits in bytes":           {sample, 64 << 20, 33 << 20, 9 << 20, 1},
		"memory does not":         {big, 24 * gib / 4096, 20*gib/4096 + 1, 6 * gib / 4096, 4096},
		"swap does not":           {swapOnly, 64 << 20 >> 12, 33 << 20 >> 12, gib / 1024, 4096},
		"the most that fits":      {edge, math.MaxUint32, math.MaxUint32, 9 << 20, 1},
		"more pages than 32 bits": {huge, math.MaxUint32, 0, 9 << 20 >> 12, 4096},
	} {
		t.Run(name, func(t *testing.T) {
			b := c.in.encode32(4096)
			if len(b) != 64 {
				t.Fatalf("%d bytes, want 64", len(b))
			}
			got := func(offset int) uint32 { return binary.LittleEndian.Uint32(b[offset:]) }
			if got(16) != c.total || got(20) != c.free || got(32) != c.swapTotal || got(52) != c.unit {
				t.Errorf("total %d, free %d, swap %d, unit %d; want %+v", got(16), got(20), got(32), got(52), c)
			}
			if got(0) != 12345 || got(8) != 2<<16+7 || got(40) != 17 || got(44) != 0 || got(48) != 0 || got(56) != 0 || got(60) != 0 {
				t.Errorf("the other fields are wrong: % x", b)
			}
		})
	}
}

func TestTasksSaturate(t *testing.T) {
	s := sysinfo{procs: 1<<16 + 3}
	if got := binary.LittleEndian.Uint16(s.encode64()[80:]); got != math.MaxUint16 {
		t.Errorf("64-bit procs = %d", got)
	}
	if got := binary.LittleEndian.Uint16(s.encode32(4096)[40:]); got != math.MaxUint16 {
		t.Errorf("32-bit procs = %d", got)
	}
}

// decoder is compiled for each ABI: it reads a struct sysinfo as that ABI lays it out.
const decoder = `
#include <stdio.h>
#include <string.h>
#include <linux/sysinfo.h>
int main(int argc, char **argv) {
	struct sysinfo s;
	unsigned char b[sizeof s];
	for (size_t i = 0; i < sizeof b; i++)
		sscanf(argv[1] + 2 * i, "%2hhx", &b[i]);
	memcpy(&s, b, sizeof s);
	printf("%zu %llu %llu %llu %llu %llu %llu %llu %llu %llu %llu %u %llu %llu %u", sizeof s,
		(unsigned long long)s.uptime, (unsigned long long)s.loads[0], (unsigned long long)s.loads[1],
		(unsigned long long)s.loads[2], (unsigned long long)s.totalram, (unsigned long long)s.freeram,
		(unsigned long long)s.sharedram, (unsigned long long)s.bufferram, (unsigned long long)s.totalswap,
		(unsigned long long)s.freeswap, s.procs, (unsigned long long)s.totalhigh, (unsigned long long)s.freehigh, s.mem_unit);
	return 0;
}`

// TestLayoutInC has the C compiler's own idea of struct sysinfo decode what the plugin writes.
func TestLayoutInC(t *testing.T) {
	arches := map[string]sdk.Arch{"x86_64": sdk.ArchX86_64, "i386": sdk.ArchI386, "arm64": sdk.ArchAArch64}
	for name, flags := range abis() {
		arch, size := arches[name], size64
		if arch.Is32Bit() {
			size = size32
		}
		t.Run(name, func(t *testing.T) {
			program := compileC(t, decoder, flags...)
			for _, s := range []sysinfo{sample, large()} {
				unit := uint64(1)
				if size == size32 && s.memory.total > math.MaxUint32 {
					unit = uint64(os.Getpagesize())
				}
				want := fmt.Sprintf("%d %d %d %d %d %d %d %d 0 %d %d %d 0 0 %d", size,
					s.uptime, s.loads[0], s.loads[1], s.loads[2], s.memory.total/unit, s.memory.free/unit,
					s.memory.shared/unit, s.swap.total/unit, s.swap.free/unit, s.procs, unit)
				got, err := exec.Command(program, hex.EncodeToString(s.encode(arch))).Output()
				if err != nil {
					t.Fatal(err)
				}
				if string(got) != want {
					t.Errorf("C sees\n%s, want\n%s", got, want)
				}
			}
		})
	}
}

// TestHostIsTheKernels compares the numbers of a caller without limits with what the kernel writes itself.
func TestHostIsTheKernels(t *testing.T) {
	s, err := hostSysinfo()
	if err != nil {
		t.Fatal(err)
	}
	var raw unix.Sysinfo_t
	if err := unix.Sysinfo(&raw); err != nil {
		t.Fatal(err)
	}
	b := s.encode64()
	if got, want := binary.LittleEndian.Uint64(b[32:]), uint64(raw.Totalram)*uint64(raw.Unit); got != want {
		t.Errorf("total %d, the kernel says %d", got, want)
	}
	if got, want := binary.LittleEndian.Uint64(b[64:]), uint64(raw.Totalswap)*uint64(raw.Unit); got != want {
		t.Errorf("swap %d, the kernel says %d", got, want)
	}
}

// compileC compiles a program, linked statically: it may run where there is no libc.
func compileC(t *testing.T, source string, flags ...string) string {
	t.Helper()
	if _, err := exec.LookPath("gcc"); err != nil {
		sdktest.Lacking(t, "needs gcc")
	}
	dir := t.TempDir()
	program := filepath.Join(dir, "program")
	cmd := exec.Command("gcc", append(flags, "-static", "-pthread", "-O1", "-w", "-o", program, "-x", "c", "-")...)
	cmd.Stdin = strings.NewReader(source)
	if out, err := cmd.CombinedOutput(); err != nil {
		sdktest.Lacking(t, "gcc %v: %v: %s", flags, err, out)
	}
	return program
}
