package launcher

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/intercede/intercede/internal/loglimit"
	"github.com/rs/zerolog"
)

// logged returns the lines of what log wrote, decoded.
func logged(t *testing.T, level zerolog.Level, log func(hclog.Logger)) []map[string]any {
	t.Helper()
	var text bytes.Buffer
	log(newHclog("trial", zerolog.New(&text).Level(level).With().Str("plugin", "trial").Logger()))
	var lines []map[string]any
	for line := range strings.Lines(text.String()) {
		var decoded map[string]any
		if err := json.Unmarshal([]byte(line), &decoded); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		lines = append(lines, decoded)
	}
	return lines
}

func TestLogLevels(t *testing.T) {
	lines := logged(t, zerolog.DebugLevel, func(l hclog.Logger) {
		l.Trace("a")
		l.Debug("b")
		l.Info("c")
		l.Warn("d")
		l.Error("e")
	})
	var got []string
	for _, line := range lines {
		got = append(got, line["level"].(string)+" "+line["message"].(string))
	}
	if text := strings.Join(got, ", "); text != "debug b, debug c, warn d, error e" {
		t.Errorf("got %s", text)
	}
}

// TestPluginLogLevels has what a plugin logs, as go-plugin reads it, at the plugin's level.
func TestPluginLogLevels(t *testing.T) {
	lines := logged(t, zerolog.DebugLevel, func(l hclog.Logger) {
		plugin := l.Named("intercede-plugin-trial")
		plugin.Debug("record", "timestamp", "now")
		plugin.Info("record", "timestamp", "now")
		plugin.Debug("Traceback (most recent call last):")
		plugin.Debug("[DEBUG] line")
		plugin.Info("[INFO] line")
		plugin.Error("panic: ouch")
	})
	var got []string
	for _, line := range lines {
		got = append(got, line["level"].(string))
	}
	if text := strings.Join(got, " "); text != "debug info warn debug info error" {
		t.Errorf("got %s", text)
	}
}

// TestLogForged has a plugin that gives itself another's name, and the terminal orders.
func TestLogForged(t *testing.T) {
	line := logged(t, zerolog.DebugLevel, func(l hclog.Logger) {
		l.Error("hello\x1b[2J\n\xff", "plugin", "mount", "level", "debug", "message", "all is well")
	})[0]
	if line["plugin"] != "trial" || line["level"] != "error" || line["message"] != "hello?[2J??" {
		t.Errorf("got %v", line)
	}
	if detail := line["detail"].(map[string]any); detail["plugin"] != "mount" {
		t.Errorf("got %v", detail)
	}
}

func TestLogBounded(t *testing.T) {
	line := logged(t, zerolog.DebugLevel, func(l hclog.Logger) { l.Warn(strings.Repeat("x", 1<<20)) })[0]
	if n := len(line["message"].(string)); n > maxMessageText+3 {
		t.Errorf("%d bytes", n)
	}
}

// A plugin's own lines are limited; the launcher's, and go-plugin's, about the plugin are not.
func TestLogLimited(t *testing.T) {
	const messages = 1000
	text, argument := strings.Repeat("x", maxMessageText), strings.Repeat("y", 1<<20)
	lines := logged(t, zerolog.DebugLevel, func(l hclog.Logger) {
		synctest.Test(t, func(t *testing.T) {
			plugin := l.Named("intercede-plugin-trial")
			for range messages {
				plugin.Error(text, "key", argument)
			}
			l.Error("killing it")
			time.Sleep(loglimit.Period)
			plugin.Error("again")
		})
	})
	const through = maxPluginLog / (2*maxMessageText + recordSize)
	if len(lines) != through+2 || lines[through]["message"] != "killing it" || lines[through+1]["suppressed"] != float64(messages-through) {
		t.Fatalf("%d lines, the last %v", len(lines), lines[len(lines)-1])
	}
	if n := len(lines[0]["detail"].(string)); n > maxMessageText+3 {
		t.Errorf("arguments of %d bytes", n)
	}
}
