package main

import (
	"fmt"
	"os"
	"time"

	"github.com/intercede/intercede/core/policy"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
)

// logFlags say what is logged where the config should not.
type logFlags struct {
	level string
}

func (f *logFlags) register(c *cobra.Command) {
	c.Flags().StringVar(&f.level, "log-level", "", "least serious `LEVEL` that is logged: trace, debug (each intercepted call), info, warn or error")
}

// logger is on standard error.
func (f *logFlags) logger(broker policy.Broker) (zerolog.Logger, error) {
	level, err := zerolog.ParseLevel(broker.LogLevel)
	if f.level != "" {
		level, err = zerolog.ParseLevel(f.level)
	}
	if err != nil {
		return zerolog.Nop(), &exitError{exitUsage, fmt.Errorf("--log-level: %w", err)}
	}
	log := zerolog.New(os.Stderr)
	if broker.LogFormat == "console" {
		log = zerolog.New(zerolog.ConsoleWriter{Out: os.Stderr, TimeFormat: time.RFC3339})
	}
	return log.Level(level).With().Timestamp().Logger(), nil
}
