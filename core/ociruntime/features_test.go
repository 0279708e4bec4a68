package ociruntime

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/intercede/intercede/sdk/sdktest"
)

func TestTakesWaitKillable(t *testing.T) {
	sdktest.RequireKernel(t, "5.19", waitKillable)
	const supported = `echo '{"linux": {"seccomp": {"knownFlags": ["` + waitKillable +
		`"], "supportedFlags": ["SECCOMP_FILTER_FLAG_LOG", "` + waitKillable + `"]}}}'`
	const crunFeatures = `echo '{"linux": {"seccomp": {"enabled": true}}, ` +
		`"annotations": {"run.oci.crun.wasm": true, "run.oci.crun.version": "1.8.6"}}'`
	const noFeatures = `[ "$1" = --version ] || exit 1; echo `
	for name, test := range map[string]struct {
		script string
		want   bool
	}{
		"runc that supports it": {supported, true},
		"runc that knows it":    {`echo '{"linux": {"seccomp": {"knownFlags": ["` + waitKillable + `"]}}}'`, false},
		"runc without flags":    {`echo '{"linux": {"seccomp": {"enabled": true}}}'`, false},
		"runc without features": {noFeatures + `runc version 1.6.0`, false},
		"crun with features":    {crunFeatures, true},
		"crun without features": {noFeatures + `crun version 1.8.1`, true},
		"crun's first":          {noFeatures + `crun version 1.6`, true},
		"crun before":           {noFeatures + `crun version 1.5`, false},
		"crun long before":      {noFeatures + `crun version 0.19`, false},
		"crun later":            {noFeatures + `crun version 2.0`, true},
		"it speaks of another":  {noFeatures + `like crun version 1.8`, false},
		"no JSON":               {`echo features`, false},
		"no runtime":            {`exit 1`, false},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "runtime")
			if err := os.WriteFile(path, []byte("#!/bin/sh\n"+test.script+"\n"), 0o755); err != nil {
				t.Fatal(err)
			}
			if got := TakesWaitKillable(t.Context(), path); got != test.want {
				t.Errorf("%t, want %t", got, test.want)
			}
		})
	}
}

// BenchmarkTakesWaitKillable is what it adds to the start of a container.
func BenchmarkTakesWaitKillable(b *testing.B) {
	for _, runtime := range []string{"runc", "crun"} {
		b.Run(runtime, func(b *testing.B) {
			path, err := exec.LookPath(runtime)
			if err != nil {
				b.Skip(err)
			}
			for b.Loop() {
				TakesWaitKillable(b.Context(), path)
			}
		})
	}
}
