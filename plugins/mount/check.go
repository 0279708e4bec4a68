package mount

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/intercede/intercede/sdk"
	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

// intent is what the broker keeps of a mount(2) before its mount is attached, for a process that has to tell whether it
// was.
type intent struct {
	Mount uint64 // id of the mount that is to be attached; of FUSE of the one that the target was on
	Dev   uint64 // st_dev of that to be attached; of FUSE 0
	FUSE  bool   // a handler is to mount
	Time  int64  // in ns since 1970
}

const (
	// intentKey begins the key of an intent. The ID of its notification follows.
	intentKey = "i"
	// intentLife is how long an intent is kept at least. No call takes as long.
	intentLife = 10 * time.Minute
	// overLife is how long the intent of a call that is over is kept at least, since its answer is on its way.
	overLife = time.Second
)

func keyOfIntent(id uint64) string {
	return intentKey + string(binary.NativeEndian.AppendUint64(nil, id))
}

// intents are those that the broker keeps for a container, also of earlier processes, by the IDs of notifications.
type intents struct {
	mu   sync.Mutex
	kept map[uint64]intent
	over map[uint64]time.Time // when their calls were over
}

func newIntents(entries map[string][]byte) *intents {
	is := &intents{kept: map[uint64]intent{}, over: map[uint64]time.Time{}}
	for key, value := range entries {
		id, ok := strings.CutPrefix(key, intentKey)
		var i intent
		if _, err := binary.Decode(value, binary.NativeEndian, &i); ok && len(id) == 8 && err == nil {
			is.kept[binary.NativeEndian.Uint64([]byte(id))] = i
		}
	}
	return is
}

// keep keeps what the call is about to do. The returned function is called when it is over.
func (is *intents) keep(ctx context.Context, req *sdk.Request, i intent) (over func(), err error) {
	is.mu.Lock()
	defer is.mu.Unlock()
	is.clean(ctx, req)
	i.Time = time.Now().UnixNano()
	value, err := binary.Append(nil, binary.NativeEndian, i)
	if err == nil {
		err = req.Keep(ctx, keyOfIntent(req.ID), value)
	}
	if err != nil {
		return nil, err
	}
	is.kept[req.ID] = i
	return func() {
		is.mu.Lock()
		defer is.mu.Unlock()
		is.over[req.ID] = time.Now()
	}, nil
}

// clean has those forgotten whose calls do not come again. The intents are locked.
func (is *intents) clean(ctx context.Context, req *sdk.Request) {
	for id, i := range is.kept {
		over, isOver := is.over[id]
		if isOver && time.Since(over) > overLife || time.Since(time.Unix(0, i.Time)) > intentLife {
			is.drop(ctx, req, id)
		}
	}
}

// drop has an intent forgotten. The intents are locked.
func (is *intents) drop(ctx context.Context, req *sdk.Request, id uint64) {
	if req.Forget(ctx, keyOfIntent(id)) == nil {
		delete(is.kept, id)
		delete(is.over, id)
	}
}

// forget has the call's intent forgotten, which came to nothing: another process may try again.
func (is *intents) forget(ctx context.Context, req *sdk.Request) {
	is.mu.Lock()
	defer is.mu.Unlock()
	is.drop(ctx, req, req.ID)
}

// of gives what an earlier process was about to do for the call.
func (is *intents) of(req *sdk.Request) (intent, bool) {
	is.mu.Lock()
	defer is.mu.Unlock()
	i, ok := is.kept[req.ID]
	return i, ok
}

// Check implements sdk.Checker: whether the mount was attached. All that was made before that ended with the process; a
// remount can be done once more.
//
// That the container has attached another mount there meanwhile changes no more than what its own call returns.
func (s *session) Check(ctx context.Context, req *sdk.Request) (response sdk.Response, done bool, err error) {
	switch req.Syscall {
	case "mount":
		done, err = s.checkMount(ctx, req)
	case "move_mount":
		done, err = s.checkMove(ctx, req)
	}
	var refused refusal
	if errors.As(err, &refused) {
		return refused.response(), done, nil
	}
	return sdk.Return(0), done, err
}

func (s *session) checkMount(ctx context.Context, req *sdk.Request) (done bool, err error) {
	i, ok := s.intents.of(req)
	name, fault := req.Path(1)
	if !ok || fault != 0 {
		return false, nil
	}
	caller, err := req.Target(ctx)
	if err != nil {
		return false, err
	}
	if i.FUSE {
		return true, s.awaitFUSE(ctx, caller, name, i.Mount)
	}
	line, err := findMountOf(ctx, caller, i.Mount)
	return line.dev == devText(i.Dev), err
}

// devText is how mountinfo has st_dev.
func devText(dev uint64) string { return fmt.Sprintf("%d:%d", unix.Major(dev), unix.Minor(dev)) }

// awaitFUSE waits for the filesystem of a handler that an earlier process has started, and which goes on without it: no
// second one is started. It is the container's program, in its namespaces, with the caller's own privileges.
func (s *session) awaitFUSE(ctx context.Context, caller *target.Target, name string, below uint64) error {
	deadline, limited := ctx.Deadline()
	for !limited || time.Now().Before(deadline.Add(-fuseMargin)) {
		now, err := mountAt(ctx, caller, name)
		if err != nil {
			return err
		}
		if now != below {
			line, err := findMountOf(ctx, caller, now)
			if err != nil || line.isFUSE() {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(fusePoll):
		}
	}
	return refusal{unix.ETIMEDOUT, handlerTimeout, ""}
}

// checkMove reports whether the mount of the first descriptor is where the caller wants it.
func (s *session) checkMove(ctx context.Context, req *sdk.Request) (done bool, err error) {
	to, fault := req.String(3)
	if fault != 0 {
		return false, nil
	}
	caller, err := req.Target(ctx)
	if err != nil {
		return false, err
	}
	moved, err := caller.OpenDescriptor(req.FD(0))
	if errors.Is(err, unix.EBADF) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer moved.File.Close()
	at, err := openFrom(ctx, caller, req.FD(2), to, pickFlags(req.Uint32(4)))
	if isRefusal(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer at.Close()
	from, _ := mountIdentity(int(moved.File.Fd()))
	there, _ := mountIdentity(int(at.Fd()))
	return from == there, nil
}
