// Package ltp runs the tests of the Linux Test Project that make the calls of the plugins, each in a container without
// plugins, in one with all of them, and as real root. docs/conformance.md has the result.
//
// The variable LTP of the environment is the folder in which the Linux Test Project is installed.
package ltp
