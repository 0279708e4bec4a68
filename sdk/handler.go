// Package sdk is what a plugin author imports: a plugin answers one family of system calls for unprivileged containers.
//
// A plugin is a program whose main function is sdk.Serve(handler). The broker starts it, reads its Manifest, attaches the
// containers that use it and hands it their notifications; see Handler for who answers the kernel, and when.
package sdk

import "context"

// Handler is what a plugin implements.
//
// The broker alone answers the kernel, exactly once for each notification, whatever the plugin does:
//
//   - Handle returns a valid Response: the broker performs it (writes memory back, adds the descriptor, sends the answer)
//     if the caller still waits, and drops it otherwise;
//   - Handle returns an error, or the zero Response, or panics, or is not done at the deadline, or the process dies: the
//     broker answers with Manifest.OnFailure and counts a failure. An error that wraps ErrGone counts none;
//   - Handle returns Next: the broker asks the next plugin that takes the syscall, and after the last continues.
//
// An errno for the caller is a Response (Errno), never an error.
type Handler interface {
	// Manifest says what the plugin takes and needs. It is static: every call returns the same.
	Manifest() Manifest
	// Attach is called when a container starts to use the plugin, before its first notification; again for each
	// container after a restart of the plugin. It refuses settings that it cannot work with by an error, which the
	// operator reads.
	Attach(ctx context.Context, container Container, settings Settings) (Session, error)
}

// Session is a container's use of a plugin.
type Session interface {
	// Handle answers one notification. It is called concurrently. The context ends at the deadline, and when the
	// caller is gone.
	//
	// Its goroutine may be locked to a thread that keeps to one processor. What takes long, and a process that is started
	// (which has its thread's processors for good), belong on another goroutine.
	Handle(ctx context.Context, req *Request) (Response, error)
	// Close is called once, when the container is gone and no Handle is running.
	Close() error
}
