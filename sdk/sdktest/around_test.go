package sdktest_test

import (
	"testing"

	"github.com/intercede/intercede/sdk"
	"github.com/intercede/intercede/sdk/sdktest"
)

func TestHold(t *testing.T) {
	for _, when := range []sdktest.Moment{sdktest.BeforeWork, sdktest.AfterWork} {
		t.Run(string(when), func(t *testing.T) {
			hold := sdktest.NewHold(newHandler(always(sdk.Return(7)), sdk.Syscall{Name: "getppid"}), when, nil)
			c := sdktest.NewContainer(t, hold)
			hold.KillCaller(t, c, "sys getppid")
			if got := line(c.Call(t, "sys getppid").Lines(t)[0]); got != "7 0" {
				t.Errorf("the next caller got %s", got)
			}
		})
	}
}
