package require

import "testing"

func TestOlder(t *testing.T) {
	for name, test := range map[string]struct {
		release, version string
		want             bool
	}{
		"same":           {"6.9.0-generic", "6.9", false},
		"minor below":    {"6.8.12", "6.9", true},
		"minor above":    {"6.18.0", "6.9", false},
		"major below":    {"5.19.1", "6.1", true},
		"major above":    {"6.1.0", "5.19", false},
		"release of two": {"7.0-rc1", "6.9", false},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := Older(test.release, test.version); got != test.want || err != nil {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
	if _, err := Older("6.1", "six"); err == nil {
		t.Error(`"six" is a version`)
	}
}
