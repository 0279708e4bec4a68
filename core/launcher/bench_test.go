package launcher_test

import (
	"testing"

	"github.com/intercede/intercede/core/internal/testplugin"
	"github.com/intercede/intercede/core/launcher"
	"github.com/intercede/intercede/sdk/sdktest"
	"github.com/rs/zerolog"
)

// BenchmarkStart starts a plugin and stops it: what a restart costs the calls that wait for it.
func BenchmarkStart(b *testing.B) {
	sdktest.RequireRoot(b)
	spec := specOf(testplugin.Install(b, "trial"))
	manifest, err := launcher.ReadManifest(b.Context(), spec)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		p, err := launcher.Start(b.Context(), spec, manifest, zerolog.Nop())
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		p.Stop()
		b.StartTimer()
	}
}
