package stable

import (
	"flag"
	"os"
	"slices"
	"strings"
	"testing"
)

var freeze = flag.Bool("freeze", false, "write what is there now into api.txt and protocol.txt: at a release")

func TestAPI(t *testing.T) {
	now := exported(t)
	for _, line := range now {
		if strings.Contains(line, "internal/") {
			t.Errorf("exported, and of no use to a program of others, which cannot import what it names:\n\t%s", line)
		}
	}
	compare(t, "api.txt", now, "programs of others use it. Keep it, and add what is new beside it")
}

func TestProtocol(t *testing.T) {
	compare(t, "protocol.txt", protocol(), "installed plugins speak so. Keep it (a field that is not used any more stays, and is ignored), "+
		"and add what is new: another field, message or value")
}

// compare fails the test if a line of the frozen file is not there any more.
func compare(t *testing.T, file string, now []string, advice string) {
	t.Helper()
	slices.Sort(now)
	now = slices.Compact(now)
	if *freeze {
		if err := os.WriteFile(file, []byte(strings.Join(now, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	frozen := strings.Split(strings.TrimSpace(string(text)), "\n")
	if len(frozen) < 100 {
		t.Fatalf("%s has %d lines", file, len(frozen))
	}
	for _, line := range missing(frozen, now) {
		t.Errorf("removed or changed since the last release:\n\t%s\n%s. docs/plugins/versioning.md says what is stable.", line, advice)
	}
}

// missing are the lines that are not there any more.
func missing(frozen, now []string) (lines []string) {
	for _, line := range frozen {
		if !slices.Contains(now, line) {
			lines = append(lines, line)
		}
	}
	return lines
}
