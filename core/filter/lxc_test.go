package filter

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/intercede/intercede/internal/wire"
)

// commonPolicy is LXC's own /usr/share/lxc/config/common.seccomp.
const commonPolicy = `2
denylist
reject_force_umount  # comment this to allow umount -f;  not recommended
[all]
kexec_load errno 1
open_by_handle_at errno 1
init_module errno 1
finit_module errno 1
delete_module errno 1
`

func TestLXC(t *testing.T) {
	const notify = `[all]
fsetxattr notify [3,1,SCMP_CMP_EQ]
lsetxattr notify [3,1,SCMP_CMP_EQ]
setxattr notify [3,1,SCMP_CMP_EQ]
mknod notify [1,8192,SCMP_CMP_MASKED_EQ,61440]
mknod notify [1,24576,SCMP_CMP_MASKED_EQ,61440]
mknodat notify [2,8192,SCMP_CMP_MASKED_EQ,61440]
mknodat notify [2,24576,SCMP_CMP_MASKED_EQ,61440]
setxattrat notify
sysinfo notify
`
	manifests := []*wire.Manifest{sysinfoPlugin, mknodPlugin, setxattrPlugin}
	for _, test := range []struct {
		name, base string
		manifests  []*wire.Manifest
		want       string
	}{
		{"no base", "", manifests, "2\ndenylist\n" + notify},
		{"an empty base", "\n \n", manifests, "2\ndenylist\n" + notify},
		{"nothing to notify", commonPolicy, nil, strings.Replace(commonPolicy, "denylist\n", "denylist\n[all]\n", 1)},
		{"the base refuses what the plugins take of umount2", commonPolicy, []*wire.Manifest{plugin("p", takes("umount2", when(1, 1, 1)))},
			strings.Replace(commonPolicy, "denylist\n", "denylist\n[all]\n", 1)},
		{"LXC's own base", commonPolicy, manifests, strings.Replace(commonPolicy, "denylist\n", "denylist\n"+notify, 1)},
		{"without a last line end", "2\ndenylist\n[x86]\nopen errno 1", manifests, "2\ndenylist\n" + notify + "[x86]\nopen errno 1\n"},
		{"a rule whose calls are all notified goes", "2\nallowlist errno 1\n# calls\nsysinfo\nread\n", []*wire.Manifest{sysinfoPlugin},
			"2\nallowlist errno 1\n[all]\nsysinfo notify\n# calls\nread\n"},
		{"the rest of a call keeps its action", "2\ndenylist\nmknod errno 95 # really\n",
			[]*wire.Manifest{plugin("p", takes("mknod", when(1, 3, 1)))},
			"2\ndenylist\n[all]\nmknod notify [1,1,SCMP_CMP_MASKED_EQ,3]\nmknod errno 95 [1,0,SCMP_CMP_MASKED_EQ,1]\n" +
				"mknod errno 95 [1,2,SCMP_CMP_MASKED_EQ,2]\n"},
		{"the action of an allowlist", "2\nallowlist\nmknod\n", []*wire.Manifest{plugin("p", takes("mknod", when(1, ^uint64(0), 1)))},
			"2\nallowlist\n[all]\nmknod notify [1,1,SCMP_CMP_EQ]\nmknod allow [1,1,SCMP_CMP_NE]\n"},
		{"the action of a denylist", "2\nblacklist allow\nmknod\n", []*wire.Manifest{plugin("p", takes("mknod", when(1, ^uint64(0), 1)))},
			"2\nblacklist allow\n[all]\nmknod notify [1,1,SCMP_CMP_EQ]\nmknod kill [1,1,SCMP_CMP_NE]\n"},
		{"several conditions", "", []*wire.Manifest{plugin("p", takes("bpf", both(when(0, ^uint64(0), 5), when(2, 0xff, 1))))},
			"2\ndenylist\n[all]\nbpf notify [0,5,SCMP_CMP_EQ][2,1,SCMP_CMP_MASKED_EQ,255]\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := LXC([]byte(test.base), test.manifests)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != test.want {
				t.Errorf("got\n%swant\n%s", got, test.want)
			}
		})
	}
}

func TestLXCRefuses(t *testing.T) {
	for _, test := range []struct {
		name, base string
		manifests  []*wire.Manifest
		want       []string
	}{
		{"version 1", "1\nallowlist\n1\n", nil, []string{"base policy: line 1", `"1"`, "want 2"}},
		{"JSON", "{}", nil, []string{"line 1", "want 2"}},
		{"no style", "2\n", nil, []string{"second line"}},
		{"another style", "2\ngraylist\n", nil, []string{"line 2", `"graylist"`, "allowlist"}},
		{"an empty style", "2\n\nmknod\n", nil, []string{"line 2"}},
		{"notifies", "2\ndenylist\n\nread notify\n", nil, []string{"line 4", `"read notify"`, "one listener"}},
		{"notifies with arguments", "2\ndenylist\nread notify [1,1,==]\n", nil, []string{"line 3", "one listener"}},
		{"notifies by default", "2\ndenylist notify\n", nil, []string{"line 2", "one listener"}},
		{"merged before", "2\ndenylist\n[all]\nmknod notify\n", nil, []string{"one listener"}},
		{"a rule with arguments", "2\ndenylist\nmknod errno 1 [1,1,SCMP_CMP_EQ]\n",
			nil, []string{`"mknod errno 1 [1,1,SCMP_CMP_EQ]"`, "without them"}},
		{"two actions", "2\ndenylist\n[x86]\nmknod errno 1\n[x86_64]\nmknod errno 2\n", nil, []string{`"mknod errno 1" and "mknod errno 2"`}},
		{"umount2, of which LXC refuses a part", commonPolicy, []*wire.Manifest{plugin("p", takes("umount2", when(1, 8, 8)))},
			[]string{"reject_force_umount", "arguments"}},
		{"NUL", "2\ndenylist\nmknod\x00\n", nil, []string{"line 3", "NUL"}},
		{"a long line", "2\ndenylist\n" + strings.Repeat("x", 5000) + "\n", nil, []string{"line 3", "4096"}},
		{"two arguments", "2\ndenylist\nmknod errno 1\n", []*wire.Manifest{plugin("p", takes("mknod", both(when(1, 1, 1), when(2, 1, 1))))},
			[]string{"mknod errno 1", "one argument"}},
		{"several matches of several conditions", "",
			[]*wire.Manifest{plugin("p", takes("mknod", both(when(1, 1, 1), when(2, 1, 1)), when(1, 2, 2)))}, []string{"mknod", "libseccomp"}},
		{"a call of LXC's start", "", []*wire.Manifest{plugin("p", takes("prctl"))}, []string{"plugin p: syscall prctl", "LXC"}},
		{"no call", "", []*wire.Manifest{plugin("p", takes("mknood"))}, []string{"plugin p", "mknod?"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			manifests := test.manifests
			if manifests == nil {
				manifests = []*wire.Manifest{mknodPlugin}
			}
			_, err := LXC([]byte(test.base), manifests)
			wantError(t, err, test.want...)
		})
	}
}

// checkLXCMerge compares programs, where the base can be merged.
func checkLXCMerge(t *testing.T, random *rand.Rand, base string, manifests []*wire.Manifest) bool {
	t.Helper()
	merged, err := LXC([]byte(base), manifests)
	if err != nil {
		return false
	}
	if base == "" {
		base = "2\ndenylist\n"
	}
	checkMerge(t, random, lxcToOCI(t, base), lxcToOCI(t, string(merged)), manifests, nil)
	if t.Failed() {
		t.Logf("base\n%s\nmerged\n%s", base, merged)
	}
	return true
}

func randomLXCPolicy(random *rand.Rand) string {
	pick := func(s ...string) string { return s[random.IntN(len(s))] }
	text := "2\n" + pick("denylist", "denylist errno 5", "allowlist errno 1", "allowlist errno 38") + "\n"
	usual := pick("errno 2", "errno 3", "kill")
	for range 1 + random.IntN(5) {
		text += pick("mknod", "mknodat", "umount2", "setxattr", "getpid", "sysinfo") + " " +
			pick(usual, usual, usual, "errno 9") + pick("", "", " # why") + "\n"
	}
	return text
}

var (
	lxcLine     = regexp.MustCompile(`^([a-z0-9_]+)(?: +(allow|kill|notify|errno +\d+))?((?:\[[^]]*\])*|(?: +(?:\[[^]]*\])+)?)$`)
	lxcArgument = regexp.MustCompile(`\[(\d+),([^,]+),([^0-9^,]+?)(?:,([^,]+))?\]`)
)

// lxcToOCI reads a policy as LXC does (parse_config_v2, src/lxc/seccomp.c) and writes what it makes of it as an OCI
// profile, which the tests of this package know how to compile.
func lxcToOCI(t *testing.T, text string) []byte {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	style, fallback, _ := strings.Cut(lines[1], " ")
	defaults := map[string][2]string{"denylist": {"allow", "kill"}, "allowlist": {"kill", "allow"}}[style]
	if fallback == "" {
		fallback = defaults[0]
	}
	profile := map[string]any{"architectures": profileNames()}
	profile["defaultAction"], profile["defaultErrnoRet"] = lxcAction(t, fallback)
	rules := []any{}
	for _, line := range lines[2:] {
		line, _, _ = strings.Cut(line, "#")
		if line = strings.TrimSpace(line); line == "" || line[0] == '[' {
			continue
		}
		if line == lxcForceUmount {
			line = "umount2 errno 13 [1,1,SCMP_CMP_MASKED_EQ,1]"
		}
		parts := lxcLine.FindStringSubmatch(line)
		if parts == nil {
			t.Fatalf("LXC does not take the line %q", line)
		}
		if parts[2] == "" {
			parts[2] = defaults[1]
		}
		rule := map[string]any{"names": []string{parts[1]}}
		rule["action"], rule["errnoRet"] = lxcAction(t, parts[2])
		if args := lxcArguments(t, parts[3]); args != nil {
			rule["args"] = args
		}
		rules = append(rules, rule)
	}
	profile["syscalls"] = rules
	encoded, err := json.Marshal(profile)
	if err != nil {
		t.Fatal(err)
	}
	return encoded
}

func lxcAction(t *testing.T, text string) (action string, errno *int16) {
	t.Helper()
	var number int16
	if _, err := fmt.Sscanf(text, "errno %d", &number); err == nil {
		return "SCMP_ACT_ERRNO", &number
	}
	return map[string]string{"allow": "SCMP_ACT_ALLOW", "kill": "SCMP_ACT_KILL_PROCESS", "notify": "SCMP_ACT_NOTIFY"}[text], nil
}

func lxcArguments(t *testing.T, text string) []comparison {
	t.Helper()
	var args []comparison
	for _, parts := range lxcArgument.FindAllStringSubmatch(text, -1) {
		index, err1 := strconv.ParseUint(parts[1], 10, 32)
		value, err2 := strconv.ParseUint(parts[2], 0, 64)
		mask, err3 := strconv.ParseUint("0"+parts[4], 10, 64)
		if err1 != nil || err2 != nil || err3 != nil {
			t.Fatalf("arguments %q", text)
		}
		c := comparison{Index: uint32(index), Value: value, Op: parts[3]}
		if c.Op == opMaskedEqual {
			c.Value, c.ValueTwo = mask, value
		}
		args = append(args, c)
	}
	return args
}

// A policy is written by others: whatever it is, it is merged or refused, and the result merges no second time.
func FuzzLXCBase(f *testing.F) {
	f.Add(commonPolicy)
	f.Add("2\nallowlist errno 1\n[x86]\nmknod # a\nmknodat allow\n")
	f.Fuzz(func(t *testing.T, base string) {
		text, err := LXC([]byte(base), []*wire.Manifest{mknodPlugin})
		if err != nil {
			return
		}
		if !strings.HasPrefix(string(text), "2\n") || !strings.Contains(string(text), "\nmknod notify [1,8192,SCMP_CMP_MASKED_EQ,61440]\n") {
			t.Errorf("got %q", text)
		}
		if _, err := LXC(text, []*wire.Manifest{mknodPlugin}); err == nil {
			t.Errorf("a merged policy was merged again: %q", text)
		}
	})
}
