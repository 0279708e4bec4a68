package main

import (
	"log/slog"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/intercede/intercede/cmd/internal/cli"
	"github.com/intercede/intercede/core/keep"
	"github.com/spf13/cobra"
)

func keepCommand() *cobra.Command {
	var options keep.Options
	var fallback keep.FallbackOptions
	var answer bool
	var knows int
	c := &cobra.Command{
		Use:   "keep [flags] -- COMMAND [ARG...]",
		Short: "Run a broker, and keep its descriptors when it ends, on hosts without systemd",
		Long: `Keep starts COMMAND, which is intercede serve, and starts it again whenever it ends. It keeps the descriptors that the
broker stores by systemd's protocol (NOTIFY_SOCKET, LISTEN_FDS), so that containers wait for the next broker instead of
getting ENOSYS. While no broker is ready for the time of --answer-after, keep answers: calls go on in the kernel, as if
they were not intercepted.

SIGTERM and SIGINT end the broker and then keep, after it has started a process that answers until the last container has
ended, or until the next keep takes over; SIGHUP and SIGUSR1 go to the broker; SIGUSR2 has keep execute its own program
anew. With systemd, use the units of deploy/systemd instead.`,
		Example: "  intercede keep -- intercede serve\n  intercede keep --answer-after 30s -- intercede serve --config /etc/intercede/config.toml",
		RunE: func(_ *cobra.Command, args []string) error {
			switch {
			case knows != 0:
				return knowsState(knows)
			case answer && len(args) > 0:
				return cli.Usagef("--answer takes no command")
			case !answer && len(args) == 0:
				return cli.Usagef("the command of the broker is missing: intercede keep -- intercede serve")
			}
			// It has a few descriptors and no data, and runs for years.
			debug.SetGCPercent(10)
			debug.FreeOSMemory()
			surviveBrokenPipes()
			log := keepLog()
			if answer {
				fallback.Path, fallback.AnswerAfter, fallback.Journal, fallback.Log = options.Fallback, options.AnswerAfter, options.Journal, log
				return keep.RunFallback(fallback)
			}
			options.Command, options.Log = args, log
			status, err := keep.Run(options)
			if status != 0 || err != nil {
				return &cli.ExitError{Status: status, Err: err}
			}
			return nil
		},
	}
	flags := c.Flags()
	flags.DurationVar(&options.AnswerAfter, "answer-after", 10*time.Second, "`TIME` without a broker that is ready, after which calls go on in the kernel")
	flags.DurationVar(&options.Watchdog, "watchdog", 30*time.Second, "`TIME` without a sign of life, after which the broker is ended; 0: none")
	flags.StringVar(&options.Fallback, "fallback", "/run/intercede/fallback.sock", "`PATH` of the socket of the process that answers after the end of keep; empty: none is started")
	flags.StringVar(&options.Journal, "journal", "/run/intercede/journal", "`FILE` of the broker's journal: it is beside the admin socket")
	flags.BoolVar(&answer, "answer", false, "answer calls while there is no broker, as intercede-fallback.service does")
	flags.StringVar(&fallback.Unit, "unit", "", "systemd `UNIT` of the broker, with --answer: answer at once when it is stopped")
	flags.IntVar(&knows, "knows-state", 0, "report whether keep can go on with a state of this `VERSION`")
	flags.MarkHidden("knows-state")
	return c
}

// knowsState is what keep asks a program before it becomes that.
func knowsState(version int) error {
	if version != keep.StateVersion {
		return &cli.ExitError{Status: cli.ExitFailure}
	}
	return nil
}

// keepLog logs in JSON, with the keys that the daemon's log has.
func keepLog() *slog.Logger {
	return slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			switch {
			case len(groups) > 0:
			case a.Key == slog.MessageKey:
				a.Key = "message"
			case a.Key == slog.TimeKey:
				a.Value = slog.StringValue(a.Value.Time().Format(cli.TimeFormat))
			case a.Key == slog.LevelKey:
				a.Value = slog.StringValue(strings.ToLower(a.Value.String()))
			}
			return a
		},
	}))
}
