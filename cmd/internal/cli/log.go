package cli

import (
	"os"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

// TimeFormat is that of times in logs: RFC 3339 with milliseconds.
const TimeFormat = "2006-01-02T15:04:05.000Z07:00"

// setTimeFormat is for records of all logs of the process.
func setTimeFormat() { zerolog.TimeFieldFormat = TimeFormat }

// Console writes records for people: in colours, if the file is a terminal that has them and the user has not said
// otherwise (NO_COLOR, no-color.org). formatMessage may be nil.
func Console(file *os.File, formatMessage func(any) string) zerolog.ConsoleWriter {
	return zerolog.ConsoleWriter{
		Out: file, TimeFormat: TimeFormat, TimeLocation: time.Local, FormatMessage: formatMessage, NoColor: !hasColors(file),
	}
}

func hasColors(file *os.File) bool { return IsScreen(file) && os.Getenv("NO_COLOR") == "" }

// IsScreen reports whether the file is a terminal that can do more than print lines.
func IsScreen(file *os.File) bool {
	_, err := unix.IoctlGetTermios(int(file.Fd()), unix.TCGETS)
	return err == nil && os.Getenv("TERM") != "dumb"
}
