package oci

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

const (
	// MaxMessage bounds a message, in bytes. Real states exceed 32 KiB, by their annotations.
	MaxMessage = 1 << 20

	maxID     = 1024
	maxQuoted = 64
)

// ErrMessage is wrapped by every error about a message that is not an acceptable ContainerProcessState.
var ErrMessage = errors.New("not an acceptable OCI container process state")

// readState reads one state from r, which it never reads beyond the object's last brace except for what the same Read
// returned; that is rest.
//
// The JSON is read leniently, as encoding/json does: unknown keys are skipped, the last of several equal keys counts,
// and invalid UTF-8 becomes U+FFFD. The contents must pass [checkState].
//
// Returns io.EOF if r ends before the object begins, io.ErrUnexpectedEOF if it ends within it, any other error of r as
// it is, and otherwise an error wrapping [ErrMessage].
func readState(r io.Reader) (state specs.ContainerProcessState, rest []byte, err error) {
	decoder := json.NewDecoder(&capped{reader: r, left: MaxMessage})
	if err := decoder.Decode(&state); err != nil {
		return specs.ContainerProcessState{}, nil, explainJSON(err)
	}
	if err := checkState(state); err != nil {
		return specs.ContainerProcessState{}, nil, err
	}
	rest, err = io.ReadAll(decoder.Buffered())
	return state, rest, err
}

// explainJSON wraps the errors that are about the JSON itself. A type error is retold without the value, which is the
// peer's and unbounded.
func explainJSON(err error) error {
	var syntax *json.SyntaxError
	var mistyped *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return fmt.Errorf("%w: JSON syntax at byte %d: %w", ErrMessage, syntax.Offset, err)
	case errors.As(err, &mistyped):
		return fmt.Errorf("%w: %s must be JSON for Go's %s", ErrMessage, fieldName(mistyped), mistyped.Type)
	}
	return err
}

func fieldName(mistyped *json.UnmarshalTypeError) string {
	if mistyped.Field == "" {
		return "the message"
	}
	return quoted(mistyped.Field)
}

// checkState requires what the broker relies on. runc 1.1.5 writes ociVersion "1.0.2-dev" and crun 1.8.1 "0.2.0",
// neither of which says anything about the message, so the versions are not looked at.
func checkState(state specs.ContainerProcessState) error {
	if err := checkID(state.State.ID); err != nil {
		return err
	}
	if err := checkPID("pid", state.Pid); err != nil {
		return err
	}
	if err := checkPID("state.pid", state.State.Pid); err != nil {
		return err
	}
	_, err := listenerIndex(state.Fds)
	return err
}

func checkID(id string) error {
	switch {
	case id == "":
		return fmt.Errorf("%w: state.id is missing or empty", ErrMessage)
	case len(id) > maxID:
		return fmt.Errorf("%w: state.id has %d bytes, at most %d are allowed: it begins %s",
			ErrMessage, len(id), maxID, quoted(id))
	case strings.ContainsFunc(id, unprintable):
		return fmt.Errorf("%w: state.id has unprintable characters: %s", ErrMessage, quoted(id))
	}
	return nil
}

// unprintable includes U+FFFD, which stands for what was not UTF-8.
func unprintable(r rune) bool {
	return r == utf8.RuneError || !unicode.IsPrint(r)
}

// checkPID accepts 0, "not said": crun 1.8.1 sends it in both places for exec.
func checkPID(key string, pid int) error {
	if pid < 0 || pid > math.MaxInt32 {
		return fmt.Errorf("%w: %s %d is no process ID", ErrMessage, key, pid)
	}
	return nil
}

// listenerIndex finds the listener among the descriptors' names: exactly one must be "seccompFd".
func listenerIndex(names []string) (int, error) {
	index := -1
	for i, name := range names {
		if name != specs.SeccompFdName {
			continue
		}
		if index >= 0 {
			return 0, fmt.Errorf("%w: fds names %q more than once", ErrMessage, specs.SeccompFdName)
		}
		index = i
	}
	if index < 0 {
		return 0, fmt.Errorf("%w: fds does not name %q", ErrMessage, specs.SeccompFdName)
	}
	return index, nil
}

// checkTrailing allows only JSON white space behind the object: crun ends its messages with a newline.
func checkTrailing(rest []byte) error {
	trailing := strings.TrimLeft(string(rest), " \t\r\n")
	if trailing != "" {
		return fmt.Errorf("%w: it is followed by %s", ErrMessage, quoted(trailing))
	}
	return nil
}

// quoted makes text from a peer fit for a log line: Go-quoted ASCII of its first 64 bytes.
func quoted(text string) string {
	if len(text) <= maxQuoted {
		return strconv.QuoteToASCII(text)
	}
	return strconv.QuoteToASCII(text[:maxQuoted]) + "..."
}

// capped passes on at most left bytes and fails where more are asked for.
type capped struct {
	reader io.Reader
	left   int
}

func (c *capped) Read(p []byte) (int, error) {
	if c.left == 0 {
		return 0, fmt.Errorf("%w: it does not end within %d bytes", ErrMessage, MaxMessage)
	}
	n, err := c.reader.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}
