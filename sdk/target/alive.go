package target

// Alive returns an error wrapping os.ErrProcessDone if the thread is gone. What was had by the number of the thread before a
// successful call, such as [ReadMemory]'s, was this thread's, unless another took its place by executing a program: see Confirm.
func (t *Target) Alive() error { return t.alive() }
