// Package differential makes random sequences of calls in an intercepted container and as real root, and compares what
// they return and what is there afterwards.
package differential
