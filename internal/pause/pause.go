// Package pause holds a call up at named steps, for tests of races: in programs that were built with the tag
// intercede_delays. In all others its functions are empty.
//
// The environment variable INTERCEDE_DELAYS says how long: "1500us" is for every step, "write=2ms,act=500us" for some.
// Each time a step is reached, the time is a random one between nothing and that.
package pause

// Step is a place on the way of a call.
type Step string

// In the broker, in the order of a call; the plugin has those from Capture to Valid too.
const (
	Received Step = "received" // nothing is known of the caller but the notification
	Capture  Step = "capture"  // between the things that are captured
	Captured Step = "captured" // after the last of them, before the caller is known to wait
	Valid    Step = "valid"    // the caller was known to wait; before the call is handed over
	Answer   Step = "answer"   // the plugin has answered
	Write    Step = "write"    // the caller was known to wait; before its memory is written
	Send     Step = "send"     // before the kernel is answered
)

// In the plugin.
const (
	Handle Step = "handle" // before the handler is called
	Enter  Step = "enter"  // before a thread goes to the caller's place
	Act    Step = "act"    // it is there; before the function is called
)
