package sandbox

import (
	"bytes"
	"sync"

	"github.com/hashicorp/go-hclog"
)

// maxLine bounds a line of standard error, in bytes.
const maxLine = 4096

// lines logs what a plugin writes to its os.Stderr: go-plugin's Serve has it come over gRPC, and not over the
// descriptor. Each line is a warning.
type lines struct {
	log hclog.Logger

	mu   sync.Mutex
	line []byte // that has begun
}

// Write implements io.Writer.
func (l *lines) Write(text []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for rest := text; len(rest) > 0; {
		part, after, ended := bytes.Cut(rest, []byte{'\n'})
		l.line = append(l.line, part[:min(len(part), maxLine-len(l.line))]...)
		if ended {
			l.log.Warn(string(l.line))
			l.line = l.line[:0]
		}
		rest = after
	}
	return len(text), nil
}
