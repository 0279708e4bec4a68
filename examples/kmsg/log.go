package main

import (
	"bufio"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"
)

// pipe is both ends of one: while this process has both, neither end is at its end for a caller.
type pipe struct {
	read, write *os.File
}

func newPipe() (pipe, error) {
	read, write, err := os.Pipe()
	return pipe{read, write}, err
}

func (p pipe) close() {
	p.read.Close()
	p.write.Close()
}

// maxLine bounds a line, in bytes, as the kernel's LOG_LINE_MAX does (kernel/printk/printk.c).
const maxLine = 1024

// pace is between two lines of a container: who writes faster waits, as for any full pipe, and does not keep a
// processor of the host busy with it.
const pace = 10 * time.Millisecond

// follow logs what containers write, line by line, until the pipe is closed. The log of a container is limited.
func follow(from io.Reader, log *slog.Logger, pace time.Duration) {
	lines := bufio.NewReaderSize(from, maxLine)
	for begun := false; ; time.Sleep(pace) {
		line, continues, err := lines.ReadLine()
		if err != nil {
			return
		}
		if text := strings.ToValidUTF8(string(line), "?"); text != "" && !begun {
			log.Info("kmsg", "text", text)
		}
		begun = continues // what follows is the rest of a line that is too long
	}
}
