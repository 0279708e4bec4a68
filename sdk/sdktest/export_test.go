package sdktest

import (
	"testing"

	"github.com/intercede/intercede/sdk"
	"github.com/intercede/intercede/sdk/sdktest/internal/script"
)

// RunScript runs the cases of one script, trial.script. What is wrong with them goes to report.
func RunScript(t *testing.T, report testing.TB, h sdk.Handler, s Scripts, text string) {
	t.Helper()
	file, err := script.Parse("trial.script", []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	places := s.places(t, h)
	for _, c := range file.Cases {
		s.run(report, c, places.of(c, ""), places.of(c, c.Twin))
	}
}

// Call32 is Call with a caller of the machine's 32-bit architecture.
func (c *Container) Call32(t testing.TB, script ...string) Result {
	t.Helper()
	return c.Run(t, c.Install(t, caller32.path(t)), script...)
}
