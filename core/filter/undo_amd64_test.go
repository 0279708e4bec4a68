package filter

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/intercede/intercede/internal/wire"
)

// remakeRandom makes a profile for some plugins from one that was made for others, which must be like one that is made
// from the base. Calls that those others took whole are left out: what the base said of them is lost.
func remakeRandom(t *testing.T, random *rand.Rand, base []byte, manifests []*wire.Manifest) {
	t.Helper()
	others := randomManifests(random)
	others[0].Syscalls = slices.DeleteFunc(others[0].Syscalls, func(s *wire.Syscall) bool {
		matches := normalize(s.GetWhen())
		return len(matches) == 0 || whole(matches)
	})
	first, err := OCI(base, others, listener)
	if err != nil {
		return
	}
	remade, err := OCI(first, manifests, listener)
	if err != nil {
		t.Errorf("made anew: %v", err)
		return
	}
	checkMerge(t, random, base, remade, manifests, nil)
	if t.Failed() {
		t.Logf("base %s\nfirst for %v\nthen for %v\nremade %s", base, others, manifests, remade)
	}
}

// A profile that is made anew for the same plugins stays as it is; so do the runtimes' default profiles.
func TestOCITwice(t *testing.T) {
	bases := map[string][]byte{"": nil}
	for _, name := range []string{"base", "containers-default", "moby-default"} {
		bases[name] = readFile(t, "testdata/"+name+".json")
	}
	killable := Listener{Path: listener.Path, WaitKillable: true}
	for name, base := range bases {
		t.Run(name, func(t *testing.T) {
			first, err1 := OCI(base, shipped, killable)
			second, err2 := OCI(first, shipped, killable)
			if err1 != nil || err2 != nil {
				t.Fatal(err1, err2)
			}
			if !bytes.Equal(first, second) {
				t.Errorf("first\n%s\nthen\n%s", first, second)
			}
			without, err := OCI(first, shipped, listener)
			if err != nil || bytes.Contains(without, []byte(flagWaitKillable)) {
				t.Errorf("the flag stays where the runtime does not take it: %v", err)
			}
			if name != "base" && bytes.Contains(without, []byte(flagSpecAllow)) {
				t.Error("the default flag stays, in a list that older runtimes refuse")
			}
		})
	}
}

// A call that was taken whole stays notified where the base may have allowed it and the rest is refused.
func TestOCIKeepsWholeCalls(t *testing.T) {
	for action, stays := range map[string]bool{"SCMP_ACT_ALLOW": false, "SCMP_ACT_ERRNO": true} {
		base := `{"defaultAction": "` + action + `", "syscalls": [{"names": ["sysinfo"], "action": "SCMP_ACT_ALLOW"}]}`
		first, err1 := OCI([]byte(base), []*wire.Manifest{sysinfoPlugin}, listener)
		second, err2 := OCI(first, []*wire.Manifest{mknodPlugin}, listener)
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		if strings.Contains(string(second), `"sysinfo"`) != stays {
			t.Errorf("%s by default:\n%s", action, second)
		}
	}
}

func TestOCITwiceRefuses(t *testing.T) {
	_, err := OCI([]byte(`{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "`+listener.Path+`", "syscalls": [
		{"names": ["open"], "action": "SCMP_ACT_NOTIFY", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_GT"}]}]}`),
		[]*wire.Manifest{mknodPlugin}, listener)
	wantError(t, err, "syscalls[0]", "SCMP_CMP_GT")
}
