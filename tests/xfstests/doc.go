// Package xfstests runs those tests of xfstests, the filesystems' test suite, that are about mounts, extended
// attributes and device nodes, in containers and as real root. docs/conformance.md has the result.
//
// The variable XFSTESTS of the environment is a folder with xfstests, built.
package xfstests
