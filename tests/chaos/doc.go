// Package chaos ends and stops the plugins' processes at random moments, while containers make calls that they check.
package chaos
