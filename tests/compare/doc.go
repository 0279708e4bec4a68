// Package compare runs the tests of public suites in a container without plugins, in one with all of them, and as real
// root, in places that are equal but for that, and compares where they differ with what the documentation has.
package compare
