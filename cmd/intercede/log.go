package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/intercede/intercede/cmd/internal/cli"
	"github.com/intercede/intercede/core/logqueue"
	"github.com/intercede/intercede/core/policy/config"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// logFlags say what is logged where the config should not. A log that was opened with them can be changed.
type logFlags struct {
	level string
	out   output
	queue *logqueue.Queue // once opened
}

// output is standard error, in the format of the config.
type output struct{ format atomic.Pointer[io.Writer] }

func (o *output) Write(record []byte) (int, error) { return (*o.format.Load()).Write(record) }

func (f *logFlags) register(c *cobra.Command) {
	c.Flags().StringVar(&f.level, "log-level", "", "least serious `LEVEL` that is logged: trace, debug (each intercepted call), info, warn or error")
}

// logLevels are those of the config's log_level.
var logLevels = []string{"trace", "debug", "info", "warn", "error"}

func (f *logFlags) check() error {
	if f.level != "" && !slices.Contains(logLevels, f.level) {
		return fmt.Errorf("--log-level %q: want one of %s", f.level, strings.Join(logLevels, ", "))
	}
	return nil
}

// flushTime is how long the program waits at its end for the reader of its log.
const flushTime = time.Second

// open gives a log on standard error whose reader can neither hold up the program nor end it, and what writes the rest
// of it at the end.
func (f *logFlags) open(broker config.Broker) (log zerolog.Logger, flush func(), err error) {
	if err := f.apply(broker); err != nil {
		return zerolog.Nop(), nil, err
	}
	surviveBrokenPipes()
	f.queue = logqueue.New(&f.out, describeDropped)
	return zerolog.New(f.queue).With().Timestamp().Logger(), func() { f.queue.Close(flushTime) }, nil
}

// apply has the process log what the config says, in its format, unless the flags say otherwise. The level is the
// process's, since loggers are copied for each container.
func (f *logFlags) apply(broker config.Broker) error {
	level, err := zerolog.ParseLevel(broker.LogLevel)
	if f.level != "" {
		level, err = zerolog.ParseLevel(f.level)
	}
	if err := errors.Join(f.check(), err); err != nil {
		return cli.Usagef("%w", err)
	}
	var out io.Writer = os.Stderr
	if broker.LogFormat == "console" {
		out = cli.Console(os.Stderr, printableMessage)
	}
	f.out.format.Store(&out)
	zerolog.SetGlobalLevel(level)
	return nil
}

// printableMessage is a record's message for a terminal. zerolog quotes all else, but no message, and that of a plugin
// can have in it what a container chose.
func printableMessage(message any) string {
	text, _ := message.(string)
	return printable(text)
}

// surviveBrokenPipes makes a write to standard output or error fail when its reader is gone, instead of ending the
// program. The signal is caught and not ignored: the programs that this one executes would inherit that.
func surviveBrokenPipes() { signal.Notify(make(chan os.Signal, 1), unix.SIGPIPE) }

func describeDropped(dropped int) []byte {
	var record bytes.Buffer
	log := zerolog.New(&record).With().Timestamp().Logger()
	log.Warn().Msgf("%d log records were dropped: the reader of the log is slow", dropped)
	return record.Bytes()
}
