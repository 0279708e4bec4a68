package launcher

import (
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/hashicorp/go-hclog"
	"github.com/rs/zerolog"
)

// newHclog makes the logger that go-plugin wants, which writes to ours. What a plugin logs arrives here too.
func newHclog(name string, log zerolog.Logger) hclog.Logger {
	logger := hclog.NewInterceptLogger(&hclog.LoggerOptions{Name: name, Level: hclog.Trace, Output: io.Discard})
	logger.RegisterSink(&zerologSink{log})
	return logger
}

type zerologSink struct {
	log zerolog.Logger
}

var levels = map[hclog.Level]zerolog.Level{
	hclog.Trace: zerolog.TraceLevel,
	hclog.Debug: zerolog.DebugLevel,
	hclog.Info:  zerolog.DebugLevel, // go-plugin reports the coming and going of processes at info
	hclog.Warn:  zerolog.WarnLevel,
	hclog.Error: zerolog.ErrorLevel,
}

// maxMessageText bounds what is logged of one message, in bytes.
const maxMessageText = 4096

// Accept implements hclog.SinkAdapter. Message and arguments may be a plugin's: they must not pass for fields of ours,
// nor reach the operator's terminal as they are.
func (s *zerologSink) Accept(_ string, level hclog.Level, message string, args ...any) {
	event := s.log.WithLevel(levels[level])
	if len(args) > 0 {
		event = event.Dict("detail", zerolog.Dict().Fields(args))
	}
	event.Msg(printable(message))
}

// printable replaces what is not a printable character by a question mark.
func printable(text string) string {
	if len(text) > maxMessageText {
		text = text[:maxMessageText] + "..."
	}
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
}
