package bpf

import (
	"testing"

	"github.com/intercede/intercede/sdk/sdktest"
)

// TestErrorsOfThisKernel loads programs with several faults, of which kernels look for another one first, and compares
// the errors with real root's.
func TestErrorsOfThisKernel(t *testing.T) {
	const name = ",4=0,4=0,8=0,4=0,4=0,8=0x2f,8=0,4=0,4=0 72" // "/", which no name may have
	script := []string{
		"sys bpf 5 struct:4=15,4=2,8=0,p=s:GPL" + name,
		"sys bpf 5 struct:4=15,4=2,p=hex:b7000000000000009500000000000000,8=0" + name,
		"sys bpf 5 struct:4=15,4=2,p=hex:b7000000000000009500000000000000,p=s:GPL" + name,
		"sys bpf 5 struct:4=8,4=2,8=0,p=s:GPL" + name,
		"sys bpf 5 struct:4=15,4=2,p=bad,p=s:GPL,4=1,4=4096,8=0,4=0,4=0,8=0,8=0,4=0,4=0 72", // a log without a buffer
		"sys bpf 5 struct:4=15,4=0xffffffff,8=0,p=s:GPL" + name,
		"sys bpf 5 struct:4=15,4=0,8=0,p=s:GPL" + name,
	}
	intercepted := emptyTree(t).containerBy(t, func(options ...sdktest.Option) *sdktest.Container {
		return sdktest.NewContainer(t, handler{}, append(options, sdktest.WithSettings(map[string]any{"devices": true}))...)
	})
	realRoot := sdktest.NewContainer(t, handler{}, sdktest.WithRealRoot())
	got, want := sdktest.Errnos(intercepted.Call(t, script...).Lines(t)), sdktest.Errnos(realRoot.Call(t, script...).Lines(t))
	if got != want {
		t.Errorf("got %s, real root gets %s", got, want)
	}
}
