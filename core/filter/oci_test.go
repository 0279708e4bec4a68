package filter

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/intercede/intercede/internal/cbpf/cbpftest"
	"github.com/intercede/intercede/internal/wire"
	libseccomp "github.com/seccomp/libseccomp-golang"
	"golang.org/x/sys/unix"
)

var listener = Listener{Path: "/run/intercede/oci.sock"}

// The order of the plugins and of their conditions must not show.
func TestOCIIsDeterministic(t *testing.T) {
	turned := plugin("mknod", takes("mknodat", when(2, unix.S_IFMT, unix.S_IFBLK), when(2, unix.S_IFMT, unix.S_IFCHR)),
		takes("mknod", when(1, unix.S_IFMT, unix.S_IFBLK), when(1, unix.S_IFMT, unix.S_IFCHR)))
	base := readFile(t, "testdata/base.json")
	a, err := OCI(base, []*wire.Manifest{sysinfoPlugin, mknodPlugin}, listener)
	if err != nil {
		t.Fatal(err)
	}
	b, err := OCI(base, []*wire.Manifest{turned, sysinfoPlugin}, listener)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a, b) {
		t.Errorf("\n%s\nbut\n%s", a, b)
	}
}

// checkMerge compares programs: what a manifest asks for is notified, all else is as with the base alone.
func checkMerge(t *testing.T, random *rand.Rand, base, merged []byte, manifests []*wire.Manifest, caps []string) {
	t.Helper()
	captures, err := collect(manifests)
	if err != nil {
		t.Fatal(err)
	}
	p, err := parseProfile(base)
	if err != nil || notifyWhole(captures, p) != nil {
		t.Fatal(err)
	}
	before, after := mustCompile(t, covered(t, base), caps), mustCompile(t, merged, caps)
	for _, c := range captures {
		for a, nr := range c.numbers {
			if known(c.name) {
				for _, args := range samples(random, c.matches) {
					if c.behind != nil && isBehind(manifests, c.name, args[0]) {
						continue // libseccomp's own doing
					}
					checkCall(t, before, after, call{a.audit, nr, args}, a, c.matches)
				}
			}
		}
	}
	routes, err := Resolve(manifests)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range architectures {
		for nr := range int32(500) {
			other := call{a.audit, nr | a.flag, [6]uint64{random.Uint64(), random.Uint64() % 4}}
			if _, taken := routes.Name(other.arch, other.nr, other.args[0]); taken || isCompat(manifests, other) {
				continue
			}
			if got, want := run(after, other), run(before, other); got != want {
				t.Errorf("%+v: %#x, without plugins %#x", other, got, want)
			}
		}
	}
}

func checkCall(t *testing.T, before, after cbpftest.VM, c call, a architecture, matches []match) {
	t.Helper()
	want := run(before, c)
	if notified(a, matches, c.args) {
		want = notify
	}
	if got := run(after, c); got != want {
		t.Errorf("%+v: %#x, want %#x", c, got, want)
	}
}

// notified is what libseccomp makes of the conditions: it compares 32 bits where registers have 32, and on x32.
func notified(a architecture, matches []match, args [6]uint64) bool {
	width := ^uint64(0)
	if a.profile != "SCMP_ARCH_X86_64" {
		width = 0xffffffff
	}
	return len(matches) == 0 || slices.ContainsFunc(matches, func(m match) bool {
		return !slices.ContainsFunc(m, func(c condition) bool { return args[c.arg]&c.mask&width != c.value&width })
	})
}

// samples are registers near the borders of the matches, and some far away.
func samples(random *rand.Rand, matches []match) [][6]uint64 {
	list := [][6]uint64{{}, {1, 1, 1, 1, 1, 1}}
	for _, m := range matches {
		var args [6]uint64
		for _, c := range m {
			args[c.arg] = c.value
		}
		list = append(list, args)
		for _, c := range m {
			for bit := range 64 {
				near := args
				near[c.arg] ^= 1 << bit
				list = append(list, near)
				near[c.arg] ^= 1 << random.IntN(64)
				list = append(list, near)
				near[random.IntN(6)] = random.Uint64() % 4
				list = append(list, near)
			}
		}
	}
	for range 50 {
		var args [6]uint64
		for i := range args {
			args[i] = random.Uint64() >> (random.IntN(4) * 16)
		}
		list = append(list, args)
	}
	return list
}

// randomManifests have conditions that a profile with a base can express.
func randomManifests(random *rand.Rand) []*wire.Manifest {
	var syscalls []*wire.Syscall
	for _, name := range []string{"mknod", "mknodat", "umount2", "setxattr"} {
		s, arg := takes(name), uint32(random.IntN(6))
		for range random.IntN(4) {
			s.When = append(s.When, when(arg, randomMask(random), randomValue(random)))
		}
		if random.IntN(5) == 0 {
			s.When = []*wire.Match{when(arg, ^uint64(0), randomValue(random))}
		}
		syscalls = append(syscalls, s)
	}
	return []*wire.Manifest{plugin("random", syscalls...)}
}

func randomMask(random *rand.Rand) uint64 {
	masks := []uint64{unix.S_IFMT, unix.S_IFMT, 0xffffffff, 0xff, 7, 0x80000001}
	return masks[random.IntN(len(masks))]
}

func randomValue(random *rand.Rand) uint64 {
	values := []uint64{0, 1, 5, 0x2000, 0x6000, 0xffffffff, ^uint64(0)}
	return values[random.IntN(len(values))]
}

// randomProfile is a profile whose rules overlap with the plugins' in many ways.
func randomProfile(random *rand.Rand) []byte {
	pick := func(s ...string) string { return s[random.IntN(len(s))] }
	actions := []string{"SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_LOG"}
	p := map[string]any{"defaultAction": pick(actions...), "architectures": profileNames()}
	usual := pick(actions...)
	// Conditions in one rule only: adding several that overlap, libseccomp 2.5.4 may loop for ever.
	conditions := max(0, random.IntN(4)-1)
	var rules []any
	for range 1 + random.IntN(4) {
		r := map[string]any{"action": pick(usual, usual, usual, pick(actions...))}
		r["names"] = []string{pick("mknod", "mknodat", "umount2"), pick("getpid", "setxattr"), pick("sysinfo", "mount")}
		var args []comparison
		for _, arg := range random.Perm(6)[:conditions] {
			op := pick("SCMP_CMP_EQ", "SCMP_CMP_EQ", "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE", "SCMP_CMP_GT", "SCMP_CMP_LE")
			args = append(args, comparison{uint32(arg), random.Uint64() % 4, 0, op})
		}
		if args != nil {
			r["args"] = args
		}
		conditions = 0
		rules = append(rules, r)
	}
	p["syscalls"] = rules
	text, err := json.Marshal(p)
	if err != nil {
		panic(err)
	}
	return text
}

// covered is the profile with this machine's architectures, as OCI makes it.
func covered(t *testing.T, base []byte) []byte {
	t.Helper()
	p, err := parseProfile(base)
	if err != nil {
		t.Fatal(err)
	}
	p.coverArchitectures()
	return p.raw.text()
}

func mustCompile(t *testing.T, text []byte, caps []string) cbpftest.VM {
	t.Helper()
	program, err := compile(text, caps)
	if err != nil {
		t.Fatalf("the runtime would refuse the profile: %v", err)
	}
	return cbpftest.New(t, program)
}

// known reports whether the installed libseccomp has the call: runtimes leave out those that it has not.
func known(name string) bool {
	_, err := libseccomp.GetSyscallFromName(name)
	return err == nil
}

func readFile(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// A profile is written by others: whatever it is, it is merged or refused, and the result merges a second time.
func FuzzOCIBase(f *testing.F) {
	f.Add(readFile(f, "testdata/base.json"))
	f.Add([]byte(`{"defaultAction": "SCMP_ACT_ERRNO", "archMap": [{"architecture": "SCMP_ARCH_X86_64"}], ` +
		`"syscalls": [{"name": "mknod", "Names": null, "args": [{}]}]}`))
	f.Fuzz(func(t *testing.T, base []byte) {
		text, err := OCI(base, []*wire.Manifest{mknodPlugin}, listener)
		if err != nil {
			return
		}
		if !json.Valid(text) {
			t.Errorf("no JSON: %s", text)
		}
		if _, err := OCI(text, []*wire.Manifest{mknodPlugin}, listener); err != nil {
			t.Errorf("%v: %s", err, text)
		}
	})
}
