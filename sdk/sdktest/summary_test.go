package sdktest_test

import (
	"testing"

	"github.com/intercede/intercede/sdk/sdktest"
	"golang.org/x/sys/unix"
)

func TestSummaries(t *testing.T) {
	if got := sdktest.Errnos([]sdktest.Line{{}, {Errno: unix.EEXIST}}); got != "ok EEXIST" {
		t.Errorf("errors: %q", got)
	}
	kind := func(k sdktest.Kind) sdktest.Record { return sdktest.Record{Outcome: sdktest.Outcome{Kind: k}} }
	result := sdktest.Result{Calls: []sdktest.Record{kind(sdktest.Value), kind(sdktest.Errno)}}
	if got := result.Kinds(); got != "value errno" {
		t.Errorf("kinds: %q", got)
	}
}
