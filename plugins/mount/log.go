package main

import (
	"fmt"
	"log"
	"os"
	"sync"
	"time"
)

// logger writes lines that go-plugin takes for warnings. It is made before Serve, which gives os.Stderr away.
var logger = log.New(os.Stderr, "[WARN] ", 0)

// maxLines is how many lines a container can cause in a second.
const maxLines = 10

// lineCount counts a container's lines, which it can cause by the thousand.
type lineCount struct {
	mu      sync.Mutex
	since   time.Time
	lines   int
	leftOut int
}

// next reports whether there may be one more line, and how many were left out before it.
func (c *lineCount) next(now time.Time) (leftOut int, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.since) >= time.Second {
		c.since, c.lines = now, 0
	}
	if c.lines >= maxLines {
		c.leftOut++
		return 0, false
	}
	c.lines++
	leftOut, c.leftOut = c.leftOut, 0
	return leftOut, true
}

// warn writes a line to the broker's log. What a container chose is to be quoted (%q).
func (s *session) warn(format string, args ...any) {
	leftOut, ok := s.lines.next(time.Now())
	if !ok {
		return
	}
	text := fmt.Sprintf(format, args...)
	if leftOut > 0 {
		text += fmt.Sprintf(" (%d lines before it were left out)", leftOut)
	}
	logger.Printf("container %q: %s", s.container.ID, text)
}
