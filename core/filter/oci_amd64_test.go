package filter

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/intercede/intercede/internal/wire"
)

func TestOCIWithoutBase(t *testing.T) {
	got, err := OCI(nil, []*wire.Manifest{sysinfoPlugin, mknodPlugin, setxattrPlugin}, listener)
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("testdata/no-base.json")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("got\n%s", got)
	}
}

func TestOCIWithBase(t *testing.T) {
	base, err := os.ReadFile("testdata/base.json")
	if err != nil {
		t.Fatal(err)
	}
	got, err := OCI(base, []*wire.Manifest{sysinfoPlugin, mknodPlugin, setxattrPlugin}, listener)
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("testdata/merged.json")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("got\n%s", got)
	}
}

// What every distribution's podman and docker use, for containers with and without the capabilities that it asks for.
func TestOCIKeepsDefaultProfiles(t *testing.T) {
	for _, file := range []string{"testdata/containers-default.json", "testdata/moby-default.json"} {
		for _, caps := range [][]string{nil, {"CAP_SYS_ADMIN"}, {"CAP_SYS_ADMIN", "CAP_BPF", "CAP_MKNOD", "CAP_SYS_NICE"}} {
			t.Run(fmt.Sprint(file, caps), func(t *testing.T) { keepsProfile(t, readFile(t, file), shipped, caps) })
		}
		t.Run(file+" with values of any length", func(t *testing.T) {
			keepsProfile(t, readFile(t, file), []*wire.Manifest{anyLengthPlugin}, nil)
		})
	}
}

func keepsProfile(t *testing.T, base []byte, manifests []*wire.Manifest, caps []string) {
	t.Helper()
	merged, err := OCI(base, manifests, listener)
	if err != nil {
		t.Fatal(err)
	}
	checkMerge(t, rand.New(rand.NewPCG(1, 2)), base, merged, manifests, caps)
}

// mergeRandom merges random plugins into a random profile and checks the result. It reports whether they can be merged.
func mergeRandom(t *testing.T, random *rand.Rand) bool {
	manifests, base := randomManifests(random), randomProfile(random)
	if _, err := compile(base, nil); err != nil {
		return false // libseccomp refuses some overlapping rules by itself
	}
	merged, err := OCI(base, manifests, listener)
	if err != nil {
		return false
	}
	checkMerge(t, random, base, merged, manifests, nil)
	if t.Failed() {
		t.Logf("base %s\nmanifests %v\nmerged %s", base, manifests, merged)
	}
	remakeRandom(t, random, base, manifests)
	return true
}

func TestOCIMergesRandomProfiles(t *testing.T) {
	merges := 0
	for seed := range uint64(1000) {
		random := rand.New(rand.NewPCG(seed, 0))
		if mergeRandom(t, random) {
			merges++
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	if merges < 80 {
		t.Errorf("only %d random profiles could be merged: the test shows nothing", merges)
	}
}

func FuzzOCIMerge(f *testing.F) {
	f.Add(uint64(0), uint64(0))
	f.Fuzz(func(t *testing.T, a, b uint64) { mergeRandom(t, rand.New(rand.NewPCG(a, b))) })
}

func TestOCIRefuses(t *testing.T) {
	rules := func(list ...string) string {
		return `{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [` + strings.Join(list, ",") + `]}`
	}
	const allowMknod = `{"names": ["mknod"], "action": "SCMP_ACT_ALLOW"}`
	for _, test := range []struct {
		name      string
		base      string
		manifests []*wire.Manifest
		want      []string
	}{
		{"no JSON", `defaultAction`, nil, []string{"base profile"}},
		{"no profile", `{"ociVersion": "1.0.2"}`, nil, []string{"no defaultAction"}},
		{"null", `null`, nil, []string{"no defaultAction"}},
		{"a list", `[]`, nil, []string{"base profile"}},
		{"its own listener", `{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/x"}`, nil, []string{`listenerPath, "/run/x"`}},
		{"its own listener, spelled otherwise", `{"defaultAction": "SCMP_ACT_ALLOW", "listenerpath": "/run/x"}`, nil,
			[]string{`listenerPath, "/run/x"`}},
		{"notifies by default", `{"defaultAction": "SCMP_ACT_NOTIFY"}`, nil, []string{"defaultAction"}},
		{"notifies", rules(`{"names": ["open"], "action": "SCMP_ACT_NOTIFY"}`), nil, []string{"syscalls[0]", "open", "one listener"}},
		{"no rule", rules(`{"names": "open"}`), nil, []string{"syscalls[0]"}},
		{"two actions", rules(allowMknod, `{"names": ["mknod"], "action": "SCMP_ACT_ERRNO"}`), nil,
			[]string{"syscalls[0] and syscalls[1]", "mknod"}},
		{"two errnos", rules(`{"names": ["mknod"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}`,
			`{"names": ["mknod"], "action": "SCMP_ACT_ERRNO", "errnoRet": 2}`), nil, []string{"syscalls[0] and syscalls[1]", "mknod"}},
		{"a rule with arguments", rules(`{"names": ["mknod"], "action": "SCMP_ACT_ALLOW", ` +
			`"args": [{"index": 5, "value": 4096, "op": "SCMP_CMP_NE"}]}`), nil, []string{"mknod", "without args"}},
		{"64 bits in several matches", rules(allowMknod), []*wire.Manifest{plugin("p", takes("mknod", when(2, ^uint64(0), 1), when(2, 3, 2)))},
			[]string{"mknod", "32 bits"}},
		{"high bits", rules(allowMknod), []*wire.Manifest{plugin("p", takes("mknod", when(2, 1<<40, 1<<40)))}, []string{"mknod", "32 bits"}},
		{"two arguments", rules(allowMknod), []*wire.Manifest{plugin("p", takes("mknod", when(1, 1, 1), when(2, 1, 1)))},
			[]string{"mknod", "one argument"}},
		{"two arguments of one match", rules(allowMknod), []*wire.Manifest{plugin("p", takes("mknod", both(when(1, 1, 1), when(2, 1, 1))))},
			[]string{"mknod", "one argument"}},
		{"several matches of several conditions", "",
			[]*wire.Manifest{plugin("p", takes("mknod", both(when(1, 1, 1), when(2, 1, 1)), when(1, 2, 2)))}, []string{"mknod", "libseccomp"}},
		{"too many rules", rules(allowMknod),
			[]*wire.Manifest{plugin("p", takes("mknod", when(1, 0xffffffff, 0xff00ff00), when(1, 0xffffffff, 0x00ff00ff)))},
			[]string{"mknod", "more than 64 rules"}},
		{"runtime's own call", "", []*wire.Manifest{plugin("p", takes("sendmsg_"))}, []string{"plugin p"}},
		{"write", "", []*wire.Manifest{plugin("p", takes("write"))}, []string{"plugin p: syscall write", "runtimes"}},
		{"fcntl", "", []*wire.Manifest{plugin("p", takes("fcntl"))}, []string{"plugin p: syscall fcntl", "runtimes"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			manifests := test.manifests
			if manifests == nil {
				manifests = []*wire.Manifest{mknodPlugin}
			}
			_, err := OCI([]byte(test.base), manifests, listener)
			wantError(t, err, test.want...)
		})
	}
	t.Run("relative listener path", func(t *testing.T) {
		_, err := OCI(nil, []*wire.Manifest{mknodPlugin}, Listener{Path: "oci.sock"})
		wantError(t, err, `"oci.sock"`, "absolute")
	})
}

func TestOCIMerge(t *testing.T) {
	for _, test := range []struct {
		name      string
		base      string
		manifests []*wire.Manifest
		want      string
	}{
		{"unknown keys and exact numbers stay",
			`{"defaultAction": "SCMP_ACT_ALLOW", "x-note": "a<b", "syscalls": [` +
				`{"names": ["read"], "action": "SCMP_ACT_LOG", "args": [{"index": 0, "value": 18446744073709551615, "op": "SCMP_CMP_EQ"}], "x": 1e1}]}`,
			[]*wire.Manifest{sysinfoPlugin},
			`{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/run/intercede/oci.sock","syscalls":[` +
				`{"action":"SCMP_ACT_NOTIFY","names":["sysinfo"]},` +
				`{"names":["read"],"action":"SCMP_ACT_LOG","args":[{"index":0,"value":18446744073709551615,"op":"SCMP_CMP_EQ"}],"x":1e1}],` +
				`"x-note":"a<b"}`},
		{"a rule whose calls are all notified goes",
			`{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["sysinfo"], "action": "SCMP_ACT_ALLOW"}]}`,
			[]*wire.Manifest{sysinfoPlugin},
			`{"defaultAction":"SCMP_ACT_ERRNO","listenerPath":"/run/intercede/oci.sock",` +
				`"syscalls":[{"action":"SCMP_ACT_NOTIFY","names":["sysinfo"]}]}`},
		{"so does one whose rest is empty",
			`{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["mknod"], "action": "SCMP_ACT_ALLOW"}]}`,
			[]*wire.Manifest{plugin("p", takes("mknod", when(1, 1, 0), when(1, 1, 1)))},
			`{"defaultAction":"SCMP_ACT_ERRNO","listenerPath":"/run/intercede/oci.sock","syscalls":[` +
				`{"action":"SCMP_ACT_NOTIFY","args":[{"index":1,"value":1,"valueTwo":0,"op":"SCMP_CMP_MASKED_EQ"}],"names":["mknod"]},` +
				`{"action":"SCMP_ACT_NOTIFY","args":[{"index":1,"value":1,"valueTwo":1,"op":"SCMP_CMP_MASKED_EQ"}],"names":["mknod"]}]}`},
		{"the older form of a rule, and capabilities",
			`{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"name": "mknod", "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_MKNOD"]}}]}`,
			[]*wire.Manifest{plugin("p", takes("mknod", when(1, 1, 0)))},
			`{"defaultAction":"SCMP_ACT_ERRNO","listenerPath":"/run/intercede/oci.sock","syscalls":[` +
				`{"action":"SCMP_ACT_NOTIFY","args":[{"index":1,"value":1,"valueTwo":0,"op":"SCMP_CMP_MASKED_EQ"}],"names":["mknod"]},` +
				`{"action":"SCMP_ACT_ALLOW","args":[{"index":1,"value":1,"valueTwo":1,"op":"SCMP_CMP_MASKED_EQ"}],` +
				`"includes":{"caps":["CAP_MKNOD"]},"names":["mknod"]}]}`},
		{"missing architectures",
			`{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"]}`,
			nil,
			`{"architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_X86","SCMP_ARCH_X32"],"defaultAction":"SCMP_ACT_ALLOW",` +
				`"listenerPath":"/run/intercede/oci.sock","syscalls":[]}`},
		{"missing architectures of a map",
			`{"defaultAction": "SCMP_ACT_ALLOW", "archMap": [{"architecture": "SCMP_ARCH_S390X", "subArchitectures": []}, ` +
				`{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X32"], "x": 1}]}`,
			nil,
			`{"archMap":[{"architecture":"SCMP_ARCH_S390X","subArchitectures":[]},` +
				`{"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X32","SCMP_ARCH_X86"],"x":1}],` +
				`"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/run/intercede/oci.sock","syscalls":[]}`},
		{"a map without this machine",
			`{"defaultAction": "SCMP_ACT_ALLOW", "archMap": [{"architecture": "SCMP_ARCH_S390X"}]}`,
			nil,
			`{"archMap":[{"architecture":"SCMP_ARCH_S390X"},` +
				`{"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86","SCMP_ARCH_X32"]}],` +
				`"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/run/intercede/oci.sock","syscalls":[]}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			text, err := OCI([]byte(test.base), test.manifests, listener)
			if err != nil {
				t.Fatal(err)
			}
			var got bytes.Buffer
			if err := json.Compact(&got, text); err != nil {
				t.Fatal(err)
			}
			if got.String() != test.want {
				t.Errorf("got  %s\nwant %s", &got, test.want)
			}
		})
	}
}

func TestOCIWaitKillable(t *testing.T) {
	const taken = `"SECCOMP_FILTER_FLAG_SPEC_ALLOW","SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"`
	for name, test := range map[string]struct {
		base      string
		manifests []*wire.Manifest
		want      string // the list, empty if there is none
	}{
		"no base": {"", []*wire.Manifest{mknodPlugin}, taken},
		"no list": {`{"defaultAction": "SCMP_ACT_ALLOW"}`, []*wire.Manifest{mknodPlugin}, taken},
		"null":    {`{"defaultAction": "SCMP_ACT_ALLOW", "flags": null}`, []*wire.Manifest{mknodPlugin}, taken},
		"an empty list": {`{"defaultAction": "SCMP_ACT_ALLOW", "flags": []}`, []*wire.Manifest{mknodPlugin},
			`"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"`},
		"others": {`{"defaultAction": "SCMP_ACT_ALLOW", "Flags": ["SECCOMP_FILTER_FLAG_LOG"]}`, []*wire.Manifest{mknodPlugin},
			`"SECCOMP_FILTER_FLAG_LOG","SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"`},
		"the flag":         {`{"defaultAction": "SCMP_ACT_ALLOW", "flags": [` + taken + `]}`, []*wire.Manifest{mknodPlugin}, taken},
		"nothing notified": {"", nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			text, err := OCI([]byte(test.base), test.manifests, Listener{Path: listener.Path, WaitKillable: true})
			if err != nil {
				t.Fatal(err)
			}
			var got map[string]json.RawMessage
			if err := json.Unmarshal(text, &got); err != nil {
				t.Fatal(err)
			}
			want := ""
			if test.want != "" {
				want = "[" + test.want + "]"
			}
			var flags bytes.Buffer
			if got["flags"] != nil {
				if err := json.Compact(&flags, got["flags"]); err != nil {
					t.Fatal(err)
				}
			}
			if flags.String() != want || got["Flags"] != nil {
				t.Errorf("%s", text)
			}
		})
	}
}
