package target

import (
	"fmt"

	"github.com/intercede/intercede/internal/wire"
)

// Credentials are the thread's (proc_pid_status(5)). Ids are those of the broker's user namespace, or this process's
// where this process captured them.
type Credentials struct {
	TGID   int
	UIDs   IDs
	GIDs   IDs
	Groups []uint32
	Umask  uint32
	// PIDs are the thread's ids in each pid namespace from the broker's (the first) to its own (the last).
	PIDs []int
	// TGIDs are those of its group leader.
	TGIDs         []int
	Permitted     Capabilities
	Effective     Capabilities // in the user namespace of the thread
	UserNamespace NamespaceID
}

// IDs are a thread's four user or group ids (credentials(7)).
type IDs struct {
	Real, Effective, Saved, Filesystem uint32
}

// Credentials are the thread's credentials. It waits in a system call, and does not change them meanwhile.
func (t *Target) Credentials() (*Credentials, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.lockedCredentials()
}

func (t *Target) lockedCredentials() (*Credentials, error) {
	if err := t.capture(wire.Part_PART_CREDENTIALS); err != nil {
		return nil, err
	}
	if t.credentials == nil {
		return nil, fmt.Errorf("thread %d: the broker captured no credentials", t.tid)
	}
	return t.credentials, nil
}

func credentialsFromWire(w *wire.Credentials) (*Credentials, error) {
	if len(w.GetUids()) != 4 || len(w.GetGids()) != 4 || len(w.GetTids()) == 0 || len(w.GetTids()) != len(w.GetTgids()) {
		return nil, fmt.Errorf("captured credentials are not whole: %d user and %d group ids, %d and %d process ids",
			len(w.GetUids()), len(w.GetGids()), len(w.GetTids()), len(w.GetTgids()))
	}
	return &Credentials{
		TGID: int(w.GetTgid()), UIDs: idsFromWire(w.GetUids()), GIDs: idsFromWire(w.GetGids()), Groups: w.GetGroups(), Umask: w.GetUmask(),
		PIDs: toInts(w.GetTids()), TGIDs: toInts(w.GetTgids()),
		Permitted: Capabilities(w.GetPermitted()), Effective: Capabilities(w.GetEffective()),
		UserNamespace: NamespaceID{Dev: w.GetUserNamespaceDev(), Ino: w.GetUserNamespaceIno()},
	}, nil
}

func idsFromWire(ids []uint32) IDs { return IDs{ids[0], ids[1], ids[2], ids[3]} }

func toInts(numbers []int32) []int {
	ints := make([]int, len(numbers))
	for i, n := range numbers {
		ints[i] = int(n)
	}
	return ints
}
