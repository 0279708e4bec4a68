package mount

import (
	"os"
	"path/filepath"
	"testing"
)

// TestHandlerOOMScoreAdj has a handler with the caller's place in the order of the OOM killer, not the plugin's.
func TestHandlerOOMScoreAdj(t *testing.T) {
	c := fuseContainer(t, map[string]string{"show": "show"})
	script(t, c, "show", "/bin/busybox cat /proc/self/oom_score_adj >/tmp/handler; exit 1")
	for _, want := range []string{"0\n", "300\n"} {
		c.Call(t, "write /proc/self/oom_score_adj "+want[:len(want)-1], "mkdir /tmp/m"+want[:1],
			"sys mount s:x s:/tmp/m"+want[:1]+" s:show 0 null")
		text, err := os.ReadFile(filepath.Join(c.Rootfs(), "tmp/handler"))
		if err != nil {
			t.Fatal(err)
		}
		if string(text) != want {
			t.Errorf("the handler's is %q, want %q", text, want)
		}
	}
}
