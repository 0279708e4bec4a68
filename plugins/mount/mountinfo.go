package mount

import (
	"bufio"
	"context"
	"io"
	"strconv"

	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

// mountLine is what counts here of a line of mountinfo (proc_pid_mountinfo(5)).
type mountLine struct {
	id     string
	dev    string   // "8:1"
	point  string   // the mount point, with escapes
	tags   []string // "shared:7", "master:1"
	fstype string
}

const (
	// maxField is how much is kept of a field, and maxPoint of a mount point: all bytes of a path may be escaped.
	maxField = 64
	maxPoint = 4 * unix.PathMax
	// maxTags is how many optional fields are kept: the kernel knows four.
	maxTags = 8
	// devField and pointField are the numbers of the fields with the superblock and the mount point.
	devField, pointField = 2, 4
	// firstTag is the number of the first optional field.
	firstTag = 6
)

// eachMount gives the lines of a mountinfo until fn says that it is enough. A container may have a hundred thousand
// mounts, whose paths are as long as it wants: no more of them than the one line is held, and of that only what
// counts.
func eachMount(ctx context.Context, mountinfo io.Reader, fn func(mountLine) (more bool)) error {
	reader := bufio.NewReaderSize(mountinfo, 64<<10)
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		line, err := readMountLine(reader)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if line.id != "" && !fn(line) {
			return nil
		}
	}
}

// readMountLine reads one line. Its id is empty if there is no filesystem in it.
func readMountLine(reader *bufio.Reader) (mountLine, error) {
	var line mountLine
	var field []byte
	number, behind := 0, 0 // behind counts the fields behind the separator "-"
	for {
		c, err := reader.ReadByte()
		if err != nil {
			return mountLine{}, err
		}
		if c != ' ' && c != '\n' {
			if len(field) < maxField || number == pointField && len(field) < maxPoint {
				field = append(field, c)
			}
			continue
		}
		switch {
		case number == 0:
			line.id = string(field)
		case number == devField:
			line.dev = string(field)
		case number == pointField:
			line.point = string(field)
		case behind == 1:
			line.fstype = string(field)
		case behind == 0 && number >= firstTag && string(field) != "-" && len(line.tags) < maxTags:
			line.tags = append(line.tags, string(field))
		}
		if behind > 0 || number >= firstTag && string(field) == "-" {
			behind++
		}
		if c == '\n' {
			if behind < 2 {
				line.id = ""
			}
			return line, nil
		}
		number, field = number+1, field[:0]
	}
}

// findMount finds a mount by its id; the id of the line is empty if it is not there.
func findMount(ctx context.Context, mountinfo io.Reader, id uint64) (found mountLine, err error) {
	text := strconv.FormatUint(id, 10)
	err = eachMount(ctx, mountinfo, func(l mountLine) bool {
		if l.id == text {
			found = l
		}
		return found.id == ""
	})
	return found, err
}

// findMountOf finds a mount of the caller.
func findMountOf(ctx context.Context, caller *target.Target, id uint64) (mountLine, error) {
	mountinfo, err := caller.OpenMountinfo()
	if err != nil {
		return mountLine{}, err
	}
	defer unix.Close(mountinfo)
	return findMount(ctx, &fromStart{fd: mountinfo}, id)
}
