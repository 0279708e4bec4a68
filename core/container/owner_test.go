package container

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"github.com/intercede/intercede/core/internal/testcaller"
	"github.com/intercede/intercede/sdk/sdktest"
	"golang.org/x/sys/unix"
)

const (
	owner = 54321 // of a user namespace
	inner = 54322 // of one below it
)

// nested starts a process in a user namespace of owner's, and one in a user namespace of inner's below that.
func nested(t *testing.T) (outer, below int) {
	t.Helper()
	sdktest.RequireRoot(t)
	cmd := exec.Command("setpriv", "--reuid", strconv.Itoa(owner), "--regid", strconv.Itoa(owner), "--clear-groups",
		"unshare", "--user", "--keep-caps", "sh", "-c",
		`echo ready; read mapped; setpriv --reuid 1 --clear-groups unshare --user sh -c 'echo $$; exec sleep 1000' & wait`)
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	cmd.Stderr = os.Stderr
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		if below != 0 {
			unix.Kill(below, unix.SIGKILL)
		}
		cmd.Wait()
	})
	lines, ready := bufio.NewReader(out), ""
	_, err1 = fmt.Fscanln(lines, &ready)
	proc, ids := fmt.Sprintf("/proc/%d/", cmd.Process.Pid), fmt.Appendf(nil, "0 %d 1\n1 %d 1\n", owner, inner)
	err2 = errors.Join(os.WriteFile(proc+"uid_map", ids, 0), os.WriteFile(proc+"gid_map", ids, 0))
	fmt.Fprintln(in)
	_, err3 := fmt.Fscanln(lines, &below)
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid, below
}

func TestCheckPeer(t *testing.T) {
	rootOwned := inspectContainer(t, Claim{PID: testcaller.Start(t, 0).PID})
	host := inspectContainer(t, Claim{PID: os.Getpid()})
	outerPID, belowPID := nested(t)
	outer, below := inspectContainer(t, Claim{PID: outerPID}), inspectContainer(t, Claim{PID: belowPID})
	for name, test := range map[string]struct {
		container *Container
		uid       uint32
		may       bool
	}{
		"root":                          {outer, 0, true},
		"root, of the host":             {host, 0, true},
		"owner":                         {outer, owner, true},
		"owner of the namespace above":  {below, owner, true},
		"owner of the one below":        {below, inner, true},
		"owner of the one below, above": {outer, inner, false},
		"another user":                  {outer, 12345, false},
		"another user, of root's":       {rootOwned, 12345, false},
		"root of the container":         {rootOwned, testcaller.FirstID, false},
		"a user, of the host":           {host, 12345, false},
	} {
		t.Run(name, func(t *testing.T) {
			err := test.container.CheckPeer(&test.uid)
			if (err == nil) != test.may || err != nil && !errors.Is(err, ErrNotOwner) {
				t.Errorf("user %d: %v", test.uid, err)
			}
		})
	}
	if err := outer.CheckPeer(nil); err != nil {
		t.Errorf("no peer: %v", err)
	}
}

func TestInspectForPeer(t *testing.T) {
	caller := testcaller.Start(t, 0)
	for uid, want := range map[uint32]error{0: nil, 12345: ErrNotOwner} {
		c, err := Inspect(Claim{PID: caller.PID, PeerUID: &uid})
		if !errors.Is(err, want) {
			t.Errorf("user %d: %v", uid, err)
		}
		if c != nil {
			c.Close()
		}
	}
}

// TestIsOfRoot has device cgroups count for containers that root of the host has made and brought, and for no others.
func TestIsOfRoot(t *testing.T) {
	pid := testcaller.Start(t, 0).PID
	outer, below := nested(t)
	root, user := uint32(0), uint32(owner)
	for name, test := range map[string]struct {
		claim Claim
		want  bool
	}{
		"root's":                        {Claim{PID: pid, PeerUID: &root}, true},
		"of the broker's own process":   {Claim{PID: pid}, true},
		"a user's":                      {Claim{PID: outer, PeerUID: &user}, false},
		"a user's, by root":             {Claim{PID: outer, PeerUID: &root}, false},
		"below a user's, by root":       {Claim{PID: below, PeerUID: &root}, false},
		"a user's, by no process known": {Claim{PID: outer}, false},
	} {
		if got := inspectContainer(t, test.claim).isOfRoot(); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
