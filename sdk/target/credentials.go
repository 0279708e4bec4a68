package target

import (
	"fmt"

	"github.com/intercede/intercede/internal/capture"
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
	if err := t.capture(capture.PartCredentials); err != nil {
		return nil, err
	}
	if t.credentials == nil {
		return nil, fmt.Errorf("thread %d: the broker captured no credentials", t.tid)
	}
	return t.credentials, nil
}

func credentialsOf(c *capture.Credentials) (*Credentials, error) {
	if len(c.Uids) != 4 || len(c.Gids) != 4 || len(c.Tids) == 0 || len(c.Tids) != len(c.Tgids) {
		return nil, fmt.Errorf("captured credentials are not whole: %d user and %d group ids, %d and %d process ids",
			len(c.Uids), len(c.Gids), len(c.Tids), len(c.Tgids))
	}
	return &Credentials{
		TGID: int(c.Tgid), UIDs: idsOf(c.Uids), GIDs: idsOf(c.Gids), Groups: c.Groups, Umask: c.Umask,
		PIDs: toInts(c.Tids), TGIDs: toInts(c.Tgids),
		Permitted: Capabilities(c.Permitted), Effective: Capabilities(c.Effective),
		UserNamespace: NamespaceID{Dev: c.UserNamespaceDev, Ino: c.UserNamespaceIno},
	}, nil
}

func idsOf(ids []uint32) IDs { return IDs{ids[0], ids[1], ids[2], ids[3]} }

func toInts(numbers []int32) []int {
	ints := make([]int, len(numbers))
	for i, n := range numbers {
		ints[i] = int(n)
	}
	return ints
}
