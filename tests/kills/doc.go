// Package kills ends the daemon at random moments, and replaces its program, while containers make calls that they
// check.
package kills
