package launcher

import (
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/hashicorp/go-hclog"
	"github.com/intercede/intercede/internal/loglimit"
	"github.com/rs/zerolog"
)

// newHclog makes the logger that go-plugin wants, which writes to ours. What a plugin logs arrives here too, under
// another name.
func newHclog(name string, log zerolog.Logger) hclog.Logger {
	logger := hclog.NewInterceptLogger(&hclog.LoggerOptions{Name: name, Level: hclog.Trace, Output: io.Discard})
	logger.RegisterSink(&zerologSink{name: name, log: log, limit: loglimit.New(maxPluginLog)})
	return logger
}

type zerologSink struct {
	name  string // of the messages that are not the plugin's
	log   zerolog.Logger
	limit *loglimit.Limit
}

var levels = map[hclog.Level]zerolog.Level{
	hclog.Trace: zerolog.TraceLevel,
	hclog.Debug: zerolog.DebugLevel,
	hclog.Info:  zerolog.InfoLevel,
	hclog.Warn:  zerolog.WarnLevel,
	hclog.Error: zerolog.ErrorLevel,
}

// levelOf is the level at which a message is logged. Of those that are go-plugin's own, it reports the coming and going
// of processes at info. Of the plugin's, it has lines on standard error that are no records at debug (logStderr,
// go-plugin): they are what something that does not know of our log has to say, and have no arguments, as records do.
func levelOf(own bool, level hclog.Level, message string, args int) zerolog.Level {
	switch {
	case own && level == hclog.Info:
		return zerolog.DebugLevel
	case !own && level == hclog.Debug && args == 0 && !strings.HasPrefix(message, "[DEBUG]"):
		return zerolog.WarnLevel
	}
	return levels[level]
}

const (
	// maxMessageText bounds what is logged of one message, and of its arguments, in bytes.
	maxMessageText = 4096
	// maxPluginLog bounds what is logged of a plugin in a second, in bytes: enough for the stack of a panic.
	maxPluginLog = 64 << 10
	// recordSize is counted for what a record has beside the message and its arguments.
	recordSize = 256
)

// Accept implements hclog.SinkAdapter. Message and arguments may be a plugin's: they must not pass for fields of ours,
// nor reach the operator's terminal as they are, nor fill the log.
func (s *zerologSink) Accept(name string, level hclog.Level, message string, args ...any) {
	own := name == s.name
	logged := levelOf(own, level, message, len(args))
	if logged < max(s.log.GetLevel(), zerolog.GlobalLevel()) {
		return
	}
	detail := ""
	if len(args) > 0 {
		detail = fmt.Sprint(args...)
	}
	suppressed := 0
	if !own {
		var ok bool
		size := min(len(message), maxMessageText) + min(len(detail), maxMessageText) + recordSize
		if suppressed, ok = s.limit.Take(size); !ok {
			return
		}
	}
	event := s.log.WithLevel(logged)
	if suppressed > 0 {
		event = event.Int("suppressed", suppressed)
	}
	switch {
	case len(detail) > maxMessageText:
		event = event.Str("detail", printable(detail))
	case len(args) > 0:
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
