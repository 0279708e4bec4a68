package sdk

import (
	"context"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// Repeat says what becomes of a call whose plugin dies while it has the call: it may have done it, or a part of it. A
// call that the plugin has not received is shown to its next process in any case.
type Repeat int32

const (
	// RepeatNever gives the caller the failure verdict.
	RepeatNever Repeat = iota
	// RepeatSafe is for calls that can be done once more without a difference: they ask, or they set what they set
	// already. The plugin's next process handles the call.
	RepeatSafe
	// RepeatCheck is for calls that fail, or do more, when they are done once more. The plugin's next process is asked
	// whether the call was done: see Checker.
	RepeatCheck
)

// Checker is what a Session has to be too if a syscall of the manifest has RepeatCheck.
type Checker interface {
	// Check is called before Handle for a call that an earlier process of the plugin had when it died
	// (Request.Again). It finds out whether that process has done what the call asks for. If so, done is true, and the
	// Response is the answer. Else Handle is called. An error is one of Handle's.
	//
	// The earlier process is gone, and does nothing any more. But the container may have done what Check looks for,
	// itself or by another call: Check is to find what this very call left, as far as that can be told, and its
	// Response is to give the caller nothing but a result. Request.Received helps to tell.
	Check(ctx context.Context, req *Request) (response Response, done bool, err error)
}

// checked names the syscalls whose sessions have to be Checkers.
func (s *server) checked() string {
	var names []string
	for _, syscall := range s.manifest.GetSyscalls() {
		if Repeat(syscall.GetRepeat()) == RepeatCheck {
			names = append(names, syscall.GetName())
		}
	}
	return strings.Join(names, ", ")
}

// requireChecker returns an error if the session has to be a Checker and is not.
func (s *server) requireChecker(session Session) error {
	if _, ok := session.(Checker); !ok && s.checked() != "" {
		return fmt.Errorf("the manifest has RepeatCheck for %s, and the session, a %T, is not an sdk.Checker: give it a method Check",
			s.checked(), session)
	}
	return nil
}

// handle has the session handle the request, or find out that it was done already.
func handle(ctx context.Context, session Session, req *Request) (Response, error) {
	if req.Again && req.repeat == RepeatCheck {
		response, done, err := session.(Checker).Check(ctx, req)
		if err != nil || done {
			return response, err
		}
	}
	return session.Handle(ctx, req)
}

// ChangedSince reports whether a file with this ctime was made or changed after the call was received, as far as the
// ctime tells: of a filesystem that has whole seconds alone it tells no more than that. That a server has stamped the
// file, by a clock of its own, is not considered.
func (r *Request) ChangedSince(ctime unix.Timespec) bool {
	received := unix.NsecToTimespec(r.Received.UnixNano())
	if ctime.Nsec == 0 {
		return ctime.Sec >= received.Sec
	}
	return ctime.Nano() >= received.Nano()
}
