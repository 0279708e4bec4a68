package filter

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/intercede/intercede/internal/wire"
)

func TestProgramCompat(t *testing.T) {
	v := mustProgram(t, native)
	for _, test := range compatCalls {
		t.Run(test.name, func(t *testing.T) {
			if got := run(v, test.call); got != test.want {
				t.Errorf("%#x, want %#x", got, test.want)
			}
		})
	}
}

// TestProgramCompatOfTwo has one plugin that takes the callers of all ABIs, beside one that does not.
func TestProgramCompatOfTwo(t *testing.T) {
	v := mustProgram(t, plugin("a", compat(continues, "sethostname")), plugin("b", takes("sethostname")))
	if got := run(v, call{i386, 74, [6]uint64{}}); got != notify {
		t.Errorf("%#x", got)
	}
}

func TestResolveCompat(t *testing.T) {
	routes, err := Resolve([]*wire.Manifest{native})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		call call
		want string
	}{
		{call{amd64, 42, [6]uint64{}}, "connect"}, {call{amd64, x32Bit | 42, [6]uint64{}}, "connect"},
		{call{i386, 362, [6]uint64{}}, "connect"},
		{call{i386, 102, [6]uint64{3}}, "connect"}, {call{i386, 102, [6]uint64{1<<40 | 16}}, "sendmsg"},
		{call{i386, 102, [6]uint64{5}}, "accept"},
		{call{i386, 102, [6]uint64{4}}, ""}, {call{i386, 102, [6]uint64{0}}, ""}, {call{i386, 102, [6]uint64{0x10003}}, ""},
		{call{i386, 117, [6]uint64{2}}, "semget"}, {call{i386, 117, [6]uint64{0x70002}}, "semget"}, {call{i386, 117, [6]uint64{3}}, ""},
		{call{amd64, 50, [6]uint64{}}, "listen"}, {call{i386, 363, [6]uint64{}}, ""}, {call{amd64, 102, [6]uint64{3}}, ""},
	} {
		if name, ok := routes.Name(test.call.arch, test.call.nr, test.call.args[0]); name != test.want || ok != (test.want != "") {
			t.Errorf("%+v: %q, %v, want %q", test.call, name, ok, test.want)
		}
	}
}

func TestCompatRefuses(t *testing.T) {
	_, err := Resolve([]*wire.Manifest{plugin("whole", takes("socketcall")), plugin("part", compat(refused, "connect"))})
	wantError(t, err, "plugin whole takes socketcall whole, and plugin part refuses i386 programs connect")
	_, err = Resolve([]*wire.Manifest{plugin("p", compat(refused, "umount"))})
	wantError(t, err, "plugin p: syscall umount: 64-bit programs have no such call")
	_, err = LXC(nil, []*wire.Manifest{plugin("p", compat(refused, "semget"))})
	wantError(t, err, "plugin p", "LXC cannot refuse", "ipc(2)")
	_, err = LXC(nil, []*wire.Manifest{plugin("p", compat(refused, "sendmsg"))})
	wantError(t, err, "plugin p", "sendmsg", "LXC makes it itself")
	for _, others := range [][]*wire.Syscall{{compat(refused, "connect", when(0, 1, 1))},
		{compat(continues, "recvfrom", when(0, 1, 1)), compat(refused, "connect")}} {
		manifests := []*wire.Manifest{plugin("p", others...)}
		_, err = LXC(nil, manifests)
		wantError(t, err, "plugin p", "syscall "+others[0].GetName(), "leave out the conditions")
		_, err = OCI(nil, manifests, listener)
		wantError(t, err, "plugin p", "syscall "+others[0].GetName(), "leave out the conditions")
	}
	for _, s := range []*wire.Syscall{compat(refused, "connect"), compat(continues, "connect", when(0, 1, 1)), compat(continues, "semget")} {
		if _, err := LXC(nil, []*wire.Manifest{plugin("p", s)}); err != nil {
			t.Error(err)
		}
	}
	if _, err := Resolve([]*wire.Manifest{plugin("whole", takes("socketcall")), plugin("part", compat(continues, "connect"))}); err != nil {
		t.Error(err)
	}
}

// TestOCICompat holds profiles to what matters of native-only calls, as runtimes compile them: native ones are
// notified, and so is each way of i386 programs to a call that is refused to them. What libseccomp notifies beyond
// that the broker leaves to the kernel.
func TestOCICompat(t *testing.T) {
	manifest := plugin("native", slices.DeleteFunc(slices.Clone(native.GetSyscalls()), func(s *wire.Syscall) bool {
		return slices.Contains(startup, s.GetName())
	})...)
	routes, err := Resolve([]*wire.Manifest{manifest})
	if err != nil {
		t.Fatal(err)
	}
	for name, base := range map[string][]byte{
		"none": nil, "podman": readFile(t, "testdata/containers-default.json"), "docker": readFile(t, "testdata/moby-default.json"),
		"without a rule for multiplexers": []byte(`{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64"],
			"syscalls": [{"names": ["connect", "listen", "sendto"], "action": "SCMP_ACT_ALLOW"}]}`),
	} {
		t.Run(name, func(t *testing.T) {
			profile, err := OCI(base, []*wire.Manifest{manifest}, listener)
			if err != nil {
				t.Fatal(err)
			}
			v := mustCompile(t, profile, nil)
			for _, test := range compatCalls {
				if called, taken := routes.Name(test.call.arch, test.call.nr, test.call.args[0]); taken && test.want == notify && called != "sendmsg" {
					if got := run(v, test.call); got != notify {
						t.Errorf("%s: %#x, want %#x", test.name, got, notify)
					}
				}
			}
			checkMerge(t, rand.New(rand.NewPCG(1, 2)), append([]byte(nil), orAllow(base)...), profile, []*wire.Manifest{manifest}, nil)
			again, err := OCI(profile, []*wire.Manifest{manifest}, listener)
			if err != nil || string(again) != string(profile) {
				t.Errorf("made anew: %v\n%s\nwas\n%s", err, again, profile)
			}
		})
	}
}
