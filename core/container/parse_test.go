package container

import (
	"testing"

	"github.com/intercede/intercede/internal/wire"
	protobuf "google.golang.org/protobuf/proto"
)

func TestParseIDMap(t *testing.T) {
	for name, test := range map[string]struct {
		text string
		want []*wire.IDMapping // nil: an error
	}{
		"one":         {"         0     100000      65536\n", []*wire.IDMapping{{Outside: 100000, Length: 65536}}},
		"two":         {"0 1 2\n3 4 5\n", []*wire.IDMapping{{Outside: 1, Length: 2}, {Inside: 3, Outside: 4, Length: 5}}},
		"all":         {"0 0 4294967295\n", []*wire.IDMapping{{Length: 4294967295}}},
		"none":        {"", []*wire.IDMapping{}},
		"two numbers": {"0 1\n", nil},
		"too large":   {"0 1 4294967296\n", nil},
		"negative":    {"0 -1 1\n", nil},
		"a word":      {"0 x 1\n", nil},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseIDMap([]byte(test.text))
			if (err != nil) != (test.want == nil) || len(got) != len(test.want) {
				t.Fatalf("got %v, %v", got, err)
			}
			for i := range got {
				if !protobuf.Equal(got[i], test.want[i]) {
					t.Errorf("got %v", got)
				}
			}
		})
	}
}

func FuzzParseIDMap(f *testing.F) {
	f.Add([]byte("         0     100000      65536\n"))
	f.Add([]byte("0 1\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := parseIDMap(text)
		if err == nil && len(got) > len(text) {
			t.Errorf("%d mappings in %q", len(got), text)
		}
	})
}
