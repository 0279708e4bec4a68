package record

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestPlain(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "state")
	if list := ListPlain(folder); len(list) != 0 {
		t.Errorf("without a folder: %v", list)
	}
	for i, id := range []string{"a/b", strings.Repeat("x", 1024), "gone"} {
		bundle := t.TempDir()
		if err := NotePlain(folder, Plain{ID: id, Bundle: bundle, Created: time.Unix(int64(i), 0), Reason: "no daemon"}); err != nil {
			t.Fatal(err)
		}
		if id == "gone" {
			os.Remove(bundle)
		}
	}
	for range 2 {
		if list := ListPlain(folder); len(list) != 2 || list[0].ID != "a/b" || list[1].Reason != "no daemon" {
			t.Errorf("%v, want two containers", list)
		}
	}
	if files, _ := filepath.Glob(filepath.Join(folder, "plain", "*")); len(files) != 2 {
		t.Errorf("notes %v, want two", files)
	}
}
