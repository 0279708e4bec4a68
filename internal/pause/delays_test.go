//go:build intercede_delays

package pause

import (
	"maps"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]map[Step]time.Duration{
		"":                  {},
		"1500us":            {"": 1500 * time.Microsecond},
		"1ms,write=0s":      {"": time.Millisecond, Write: 0},
		"act=1s,received=0": {Act: time.Second, Received: 0},
		"written=1ms":       nil,
		"=1ms":              nil,
		"1":                 nil,
		"1ms,":              nil,
	} {
		got, err := parse(text)
		if (err != nil) != (want == nil) || err == nil && !maps.Equal(got, want) {
			t.Errorf("%q: %v, %v, want %v", text, got, err, want)
		}
	}
}
