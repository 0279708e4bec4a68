package run

import (
	"bufio"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// mount is one line of /proc/self/mountinfo (proc(5)).
type mount struct {
	root    string // the directory of the filesystem that is mounted
	point   string
	fstype  string
	options []string // of the superblock
}

// hostMounts returns the mounts that this process sees, in the order of mounting.
func hostMounts() ([]mount, error) {
	file, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("read the host's mounts: %w", err)
	}
	defer file.Close()
	var mounts []mount
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if m, ok := parseMount(lines.Text()); ok {
			mounts = append(mounts, m)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read the host's mounts: %w", err)
	}
	return mounts, nil
}

func parseMount(line string) (mount, bool) {
	fields := strings.Fields(line)
	end := slices.Index(fields, "-")
	if end < 6 || len(fields) < end+4 {
		return mount{}, false
	}
	return mount{
		root:    unescapeOctal(fields[3]),
		point:   unescapeOctal(fields[4]),
		fstype:  fields[end+1],
		options: strings.Split(fields[end+3], ","),
	}, true
}

// unescapeOctal undoes the \040 that mountinfo writes for a space, and its kin.
func unescapeOctal(s string) string {
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				out.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		out.WriteByte(s[i])
	}
	return out.String()
}

// within reports whether path is dir or below it; both are clean and absolute.
func within(path, dir string) bool {
	return dir == "/" || path == dir || strings.HasPrefix(path, dir+"/")
}

// mountOf returns the mount that path, absolute and without symlinks, is on.
func mountOf(mounts []mount, path string) (mount, bool) {
	var found mount
	for _, m := range mounts {
		if within(path, m.point) && len(m.point) >= len(found.point) {
			found = m
		}
	}
	return found, found.point != ""
}
