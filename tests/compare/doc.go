// Package compare runs the tests of public suites in a container with plugins, as real root, and in a container without
// plugins, in places that are equal but for that, and compares where they differ with what the documentation has.
package compare
