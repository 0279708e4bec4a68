// Package sdk is what a plugin author imports: a plugin answers one family of system calls for unprivileged containers.
//
// A plugin is a program whose main function is sdk.Serve(handler). The broker starts it, reads its Manifest, attaches
// the containers that use it and hands it their notifications; see Handler for who answers the kernel, and when. Where
// settings are all that a container needs, sdk.Func makes a handler of a function.
package sdk

import "context"

// Handler is what a plugin implements. Func makes one of a function.
//
// The broker alone answers the kernel, exactly once for each notification, whatever the plugin does:
//
//   - Handle returns Return, Errno or AddFD: the broker answers so, if the caller still waits. An answer for a caller
//     that is gone is dropped.
//   - Handle returns Continue: the kernel performs the call itself, and no further plugin is asked.
//   - Handle returns Next: the broker asks the next plugin that takes the syscall. After the last the kernel performs
//     the call.
//   - Handle returns an error that wraps ErrGone, or an error of the Target's because its thread is gone: the broker
//     makes sure, and answers nobody. If the caller waits all the same, the plugin has failed.
//   - Handle returns another error, or the zero Response: the plugin has failed. The broker answers with
//     Manifest.OnFailure, and counts a failure of the container.
//   - Handle panics: the same.
//   - Handle has not returned at the deadline: the same, at the deadline. What it returns later is dropped.
//   - The process dies before it has received the call: the plugin's next process gets it.
//   - The process dies later: Syscall.Repeat says whether the next process gets it, with Request.Again. If not, the
//     plugin has failed. A call that ends process after process is given up after the third.
//
// Writes (Response.Write) are performed just before the answer, with Return, Errno and AddFD. If one cannot be
// performed the caller gets EFAULT instead of the answer. Continue and Next take none: such a Response is a failure,
// since the kernel, or the next plugin, would read what was written.
//
// A reason (Response.Because) changes nothing of all this: it is for the operator.
//
// An errno for the caller is a Response (Errno), never an error.
type Handler interface {
	// Manifest says what the plugin takes and needs. It is static: every call returns the same.
	Manifest() Manifest
	// Attach is called once for each container that uses the plugin, before its first notification, and again for each
	// after a restart of the plugin's process. It is called concurrently for different containers.
	//
	// The context ends when Attach returns, and after 10 s. What the session does in the background needs a context of
	// its own, which Close ends. An error refuses the container: the operator reads it, and the container's calls get
	// Manifest.OnFailure.
	Attach(ctx context.Context, container Container, settings Settings) (Session, error)
}

// Session is a container's use of a plugin. A Session may implement these too:
//
//   - io.Closer: Close is called once, when the container is gone and no Handle is running. Its error is logged. It is
//     not called when the process ends otherwise: see Request.Keep for what the next process must know.
//   - Checker: for syscalls with RepeatCheck.
type Session interface {
	// Handle answers one notification. It is called concurrently, also for one container: its threads make calls at
	// once.
	//
	// The context ends at the deadline (10 s, unless the operator sets another), and when the caller was killed. It
	// does not end when a signal interrupts the caller, since the answer is then for the call that it makes again.
	//
	// The Request, its Target and the memory that it gives are valid until Handle returns: keep copies of what is
	// needed later. Request.Container stays valid until Close.
	//
	// Its goroutine may be locked to a thread that keeps to one processor. What takes long, and a process that is
	// started (which has its thread's processors for good), belong on another goroutine.
	Handle(ctx context.Context, req *Request) (Response, error)
}
