package main

import (
	"os"
	"time"

	"github.com/rs/zerolog"
)

// newLogger makes the logger that the config asks for, on standard error.
func newLogger(level, format string) (zerolog.Logger, error) {
	parsed, err := zerolog.ParseLevel(level)
	if err != nil {
		return zerolog.Nop(), err
	}
	log := zerolog.New(os.Stderr)
	if format == "console" {
		log = zerolog.New(zerolog.ConsoleWriter{Out: os.Stderr, TimeFormat: time.RFC3339})
	}
	return log.Level(parsed).With().Timestamp().Logger(), nil
}
