package sdk

import (
	"context"
	"io"
	"log/slog"
	"strconv"
	"strings"

	"github.com/intercede/intercede/internal/loglimit"
)

// A plugin logs with log/slog: its default logger writes what the broker has in its own log, at the same level, under
// the plugin's name. What a container can cause goes to Request.Log or Container.Log, which are limited for each
// container. What is written to standard error otherwise arrives as a warning.

// hclogTime is how go-plugin reads the time of a record (hclog.TimeFormat).
const hclogTime = "2006-01-02T15:04:05.000000Z07:00"

// newLogHandler writes records as go-plugin reads them from a plugin's standard error (parseJSON, go-plugin): JSON with
// keys of hclog's.
func newLogHandler(out io.Writer) slog.Handler {
	return slog.NewJSONHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) > 0 {
			return a
		}
		switch a.Key {
		case slog.TimeKey:
			if a.Value.Kind() == slog.KindTime {
				return slog.String("@timestamp", a.Value.Time().Format(hclogTime))
			}
		case slog.LevelKey:
			if level, ok := a.Value.Any().(slog.Level); ok {
				return slog.String("@level", levelName(level))
			}
		case slog.MessageKey:
			return slog.Attr{Key: "@message", Value: a.Value}
		}
		return a
	}})
}

// levelName is the level's name, of which there are no others: slog's "DEBUG-4" is "debug".
func levelName(level slog.Level) string {
	name, _, _ := strings.Cut(level.String(), "+")
	name, _, _ = strings.Cut(name, "-")
	return strings.ToLower(name)
}

// maxContainerRecords is how many records a container can cause in a second.
const maxContainerRecords = 10

// newContainerLog is a log for what the container causes, which is limited.
func newContainerLog(id string) *slog.Logger {
	return slog.New(limited{slog.Default().Handler(), loglimit.New(maxContainerRecords)}).With("container", id)
}

// limited passes on so many records as the limit takes. The next one says how many are missing before it.
type limited struct {
	slog.Handler
	limit *loglimit.Limit
}

func (l limited) Handle(ctx context.Context, record slog.Record) error {
	suppressed, ok := l.limit.Take(1)
	if !ok {
		return nil
	}
	if suppressed > 0 {
		record = record.Clone()
		record.AddAttrs(slog.Int("suppressed", suppressed))
	}
	return l.Handler.Handle(ctx, record)
}

func (l limited) WithAttrs(attrs []slog.Attr) slog.Handler {
	return limited{l.Handler.WithAttrs(attrs), l.limit}
}

func (l limited) WithGroup(name string) slog.Handler {
	return limited{l.Handler.WithGroup(name), l.limit}
}

// Log is the plugin's log for what concerns the container, whose ID each record has. It takes ten records a second of
// the container, also those of Request.Log: the next one says how many are missing before it, as "suppressed".
func (c *Container) Log() *slog.Logger {
	if c.log == nil { // not from the broker
		return slog.Default().With("container", c.ID)
	}
	return c.log
}

// Log is Container.Log with the call: its syscall, the notification's id, and the thread. The id is a string: as a
// number it would lose digits on its way to the broker (hclog reads those of JSON as float64).
func (r *Request) Log() *slog.Logger {
	return r.Container.Log().With("syscall", r.Syscall, "call", strconv.FormatUint(r.ID, 10), "tid", r.TID)
}
