package daemon

import (
	"strings"
	"testing"

	"github.com/intercede/intercede/core/keep"
	"github.com/intercede/intercede/core/record"
)

// A daemon with another folder than the one before it would lose all containers: it does not start.
func TestCheckKept(t *testing.T) {
	container := []keep.Descriptor{{Name: "socket.unix.s"}, {Name: "namespace.3"}}
	for name, test := range map[string]struct {
		remains Remains
		kept    []keep.Descriptor
		refused bool
	}{
		"nothing":           {Remains{}, nil, false},
		"sockets alone":     {Remains{}, container[:1], false},
		"no record":         {Remains{}, container, true},
		"records":           {Remains{records: []*record.Record{{Number: 3}}}, container, false},
		"unreadable record": {Remains{bad: true}, container, false},
	} {
		err := test.remains.checkKept("/run/x", test.kept)
		if (err != nil) != test.refused || err != nil && !strings.Contains(err.Error(), "control") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
