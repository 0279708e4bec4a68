package ociruntime

import (
	"os"
	"path/filepath"
	"testing"
)

// What is merged, whole: each file of testdata is a config.json, the one with .golden what becomes of it. What it means
// to the kernel is tested where it is made, in core/filter.
func TestInterceptGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) < 3 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, file := range files {
		t.Run(file, func(t *testing.T) {
			path := writeConfig(t, readBack(t, file))
			f, err := readConfigFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := f.intercept(mknod, notTaken); err != nil {
				t.Fatal(err)
			}
			got := readBack(t, path)
			if *update {
				if err := os.WriteFile(file+".golden", []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if want := readBack(t, file+".golden"); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}
