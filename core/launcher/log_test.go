package launcher

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
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
