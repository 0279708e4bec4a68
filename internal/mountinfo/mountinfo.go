// Package mountinfo reads the mounts of the calling thread's own mount namespace.
//
// It is not for another process's mounts, which may be as many as that process likes. Of this process's, local users
// may make single lines long (FUSE mounts in folders that they then move deeper), so that there is no limit for a line.
// That is why github.com/moby/sys/mountinfo is not used: a line of more than 64 KiB makes it fail.
package mountinfo

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Mount is what counts here of a line of mountinfo (proc_pid_mountinfo(5)).
type Mount struct {
	Root    string // the folder of the filesystem that is mounted
	Point   string
	Type    string   // of the filesystem
	Options []string // of the superblock
}

// Own returns the mounts that the calling thread sees, in the order of mounting.
func Own() ([]Mount, error) { return OwnOf("") }

// OwnOf returns those of Own whose filesystem's type begins so, in a fraction of the time.
func OwnOf(prefix string) ([]Mount, error) {
	text, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("read this process's mounts: %w", err)
	}
	return parse(string(text), prefix), nil
}

// parse returns the mounts whose filesystem's type begins with the prefix. It follows a field "-"; blanks in the fields
// before are escaped.
func parse(text, prefix string) []Mount {
	var mounts []Mount
	for line := range strings.Lines(text) {
		if !strings.Contains(line, " - "+prefix) {
			continue
		}
		if m, ok := parseLine(strings.TrimSuffix(line, "\n")); ok {
			mounts = append(mounts, m)
		}
	}
	return mounts
}

// parseLine splits at single blanks: a source may be empty.
func parseLine(line string) (Mount, bool) {
	fields := strings.Split(line, " ")
	end := slices.Index(fields, "-")
	if end < 6 || len(fields) < end+4 || !strings.HasPrefix(fields[4], "/") {
		return Mount{}, false
	}
	return Mount{
		Root:    unescape(fields[3]),
		Point:   unescape(fields[4]),
		Type:    fields[end+1],
		Options: strings.Split(fields[end+3], ","),
	}, true
}

// unescape undoes mountinfo's escapes: a backslash and three octal digits.
func unescape(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		if s[0] == '\\' && len(s) >= 4 {
			if c, err := strconv.ParseUint(s[1:4], 8, 8); err == nil {
				b.WriteByte(byte(c))
				s = s[4:]
				continue
			}
		}
		b.WriteByte(s[0])
		s = s[1:]
	}
	return b.String()
}

// Within reports whether path is dir or below it; both are clean and absolute.
func Within(path, dir string) bool {
	return dir == "/" || path == dir || strings.HasPrefix(path, dir+"/")
}
