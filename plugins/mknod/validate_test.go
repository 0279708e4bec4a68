package mknod

import (
	"strings"
	"testing"

	"github.com/intercede/intercede/sdk/sdktest"
)

func TestFindings(t *testing.T) {
	h := sdktest.Serve(t, handler{})
	if found := h.Findings(nil); found != nil {
		t.Errorf("the defaults: %v", found)
	}
	for device, want := range map[string]string{
		"c 1:1": "owns the host", "c 1:2": "owns the host", "c 1:4": "owns the host",
		"c 1:0-9": "owns the host", "c 1:*": "owns the host",
		"c 1:11": "kernel log", "b 8:0": "disk of the host", "b 7:0-9": "disk of the host", "b 0:0": "",
		"c 1:5-9": "", "c 10:229": "", "c 2:1": "",
	} {
		found := h.Findings(map[string]any{"devices": []string{device}})
		switch {
		case want == "" && len(found) == 0:
		case want == "" || len(found) != 1,
			!found[0].Warning || found[0].Key != "devices" || !strings.Contains(found[0].Text, want):
			t.Errorf("%s: %v, want %q", device, found, want)
		}
	}
	found := h.Findings(map[string]any{"devices": []string{"c 5000:1", "c 1:9-3"}})
	if len(found) != 2 || found[0].Warning || found[1].Warning {
		t.Errorf("devices that are none: %v", found)
	}
}
