package capture

import "testing"

func TestExecLabel(t *testing.T) {
	for current, want := range map[string]string{
		"docker-default (enforce)\n":                         "exec docker-default",
		"lxc-a_</var/lib/lxc>//&:lxc-a_<x>:unconfined (x)\n": "exec lxc-a_</var/lib/lxc>//&:lxc-a_<x>:unconfined",
		"/usr/bin/a b (c) (complain)\n":                      "exec /usr/bin/a b (c)",
		"unconfined\n":                                       "",
		"unconfined":                                         "",
		"system_u:system_r:container_t:s0:c1,c2\x00":         "system_u:system_r:container_t:s0:c1,c2",
		"": "",
	} {
		if got := string(execLabel([]byte(current))); got != want {
			t.Errorf("%q: got %q, want %q", current, got, want)
		}
	}
}
