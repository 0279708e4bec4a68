package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/intercede/intercede/sdk"
	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

// intent is what the broker keeps of a mount(2) before its mount is attached, for a process that has to tell whether it
// was.
type intent struct {
	Mount uint64    `json:"mount,omitempty"` // id of the one that is to be attached
	Dev   uint64    `json:"dev,omitempty"`   // its st_dev
	FUSE  bool      `json:"fuse,omitempty"`  // a handler is to mount
	Below uint64    `json:"below,omitempty"` // of FUSE: the mount that the target was on
	Time  time.Time `json:"time"`
}

const (
	// intentKey is the key of an intent, with the ID of the notification.
	intentKey = "mounting %x"
	// intentLife is how long an intent is kept at least. No call takes as long.
	intentLife = time.Minute
)

// parseIntents gives the intents that are kept, by the IDs of their notifications.
func parseIntents(entries map[string][]byte) map[uint64]intent {
	intents := map[uint64]intent{}
	for key, value := range entries {
		var id uint64
		var i intent
		if n, _ := fmt.Sscanf(key, intentKey, &id); n == 1 && json.Unmarshal(value, &i) == nil {
			intents[id] = i
		}
	}
	return intents
}

// intend keeps what the call is about to do.
func (s *session) intend(ctx context.Context, req *sdk.Request, i intent) error {
	i.Time = time.Now()
	value, err := json.Marshal(i)
	if err != nil {
		return err
	}
	s.forgetIntents(ctx, req)
	if err := req.Keep(ctx, fmt.Sprintf(intentKey, req.ID), value); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.intents[req.ID] = i
	return nil
}

// forgetIntent has the call's intent forgotten, which came to nothing: another process may try again.
func (s *session) forgetIntent(ctx context.Context, req *sdk.Request) {
	req.Forget(ctx, fmt.Sprintf(intentKey, req.ID))
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.intents, req.ID)
}

// forgetIntents has those forgotten whose calls do not come again. A call that is over has not got its answer yet, so
// that it cannot forget its own.
func (s *session) forgetIntents(ctx context.Context, req *sdk.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, i := range s.intents {
		if time.Since(i.Time) > intentLife {
			req.Forget(ctx, fmt.Sprintf(intentKey, id))
			delete(s.intents, id)
		}
	}
}

// intended gives what an earlier process was about to do for the call.
func (s *session) intended(req *sdk.Request) (intent, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, ok := s.intents[req.ID]
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
		return sdk.Errno(refused.errno), done, nil
	}
	return sdk.Return(0), done, err
}

func (s *session) checkMount(ctx context.Context, req *sdk.Request) (done bool, err error) {
	i, ok := s.intended(req)
	name, fault := req.Path(1)
	if !ok || fault != 0 {
		return false, nil
	}
	caller, err := req.Target(ctx)
	if err != nil {
		return false, err
	}
	if i.FUSE {
		return true, s.awaitFUSE(ctx, caller, name, i.Below)
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
	return refusal{unix.ETIMEDOUT}
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
