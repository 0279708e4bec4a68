package ociruntime

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// log adds a line to the file that --log names, in the form in which runc writes it, so that engines find it. Without
// such a file it does nothing: standard error is the container's. Errors get there by the exit of the program.
func (c *command) log(level, message string) {
	path, ok := c.logFile()
	if !ok {
		return
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND|unix.O_NONBLOCK, 0o644)
	if err != nil {
		return // a log that cannot be written is the real runtime's to complain about
	}
	defer file.Close()
	file.WriteString(logLine(c.logFormat, level, message, time.Now()))
}

// logFile is the file that --log names: crun's has a scheme, and may be no file.
func (c *command) logFile() (path string, ok bool) {
	if strings.HasPrefix(c.logTo, "journald:") || strings.HasPrefix(c.logTo, "syslog:") {
		return "", false
	}
	path = strings.TrimPrefix(c.logTo, "file:")
	return path, path != ""
}

func logLine(format, level, message string, now time.Time) string {
	if format == "json" {
		line, _ := json.Marshal(map[string]string{"level": level, "msg": message, "time": now.Format(time.RFC3339)})
		return string(line) + "\n"
	}
	return fmt.Sprintf("time=%q level=%s msg=%q\n", now.Format(time.RFC3339), level, message)
}
