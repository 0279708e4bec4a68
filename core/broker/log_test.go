package broker

import (
	"testing"
	"time"

	"github.com/intercede/intercede/core/internal/testplugin"
)

// TestPluginLog has a plugin log in every way it can: each record arrives at its level, under the plugin's name.
func TestPluginLog(t *testing.T) {
	t.Parallel()
	b := newBench(t, options{})
	c := b.attach(t)
	want(t, ask(t, c, testplugin.Speak, 1), 0, 0)
	for message, level := range map[string]string{
		"says debug": "debug", "says info": "info", "says warn": "warn", "says error": "error", "says by log": "info", "says of the call": "info",
		"says on standard error": "warn", "says on the descriptor": "warn",
	} {
		b.log.await(t, 1, `"level":"`+level+`"`, `"message":"`+message+`"`, `"plugin":"trial"`)
	}
	b.log.await(t, 1, "says of the call", `"container":"`, `"syscall":"getppid"`, `"call":`)
	b.log.await(t, 1, "says info", `"a":1`)

	// Of the call there are so many records in a second, and the next one says how many are missing.
	const most = 10 // sdk.Container.Log
	began := time.Now()
	want(t, ask(t, c, testplugin.Speak, 200), 0, 0)
	seconds := int(time.Since(began)/time.Second) + 2 // which may have begun, with that of the first record
	if n := b.log.count("says of the call"); n > most*seconds {
		t.Errorf("%d records of the container in %d seconds", n, seconds)
	}
}
