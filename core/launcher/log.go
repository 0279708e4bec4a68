package launcher

import (
	"io"

	"github.com/hashicorp/go-hclog"
	"github.com/rs/zerolog"
)

// newHclog is the logger that go-plugin wants, writing to ours. What a plugin logs arrives here too.
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

// Accept implements hclog.SinkAdapter.
func (s *zerologSink) Accept(_ string, level hclog.Level, message string, args ...any) {
	s.log.WithLevel(levels[level]).Fields(args).Msg(message)
}
