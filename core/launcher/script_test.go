package launcher_test

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/intercede/intercede/core/launcher"
	"github.com/intercede/intercede/sdk/sdktest"
)

// printing is a script that prints a good manifest, and what it sees of itself as the version.
func printing(first string) []byte {
	return []byte(first + "\n" +
		`echo '{"name":"x","version":"'$0' '$1'","on_failure":{"continue":true},"syscalls":[{"name":"sync"}]}'` + "\n")
}

// TestScript reads the manifest of a script: its interpreter is executed by descriptor, and finds the script at one
// place wherever it is on the host.
func TestScript(t *testing.T) {
	sdktest.RequireRoot(t)
	for name, first := range map[string]string{"plain": "#!/bin/sh", "with an argument": "#! /bin/sh -e ", "a link": "#!/usr/bin/sh"} {
		t.Run(name, func(t *testing.T) {
			content := printing(first)
			sum := sha256.Sum256(content)
			spec := launcher.Spec{Name: "x", Path: binary(t, "x", content, 0o755), SHA256: hex.EncodeToString(sum[:])}
			m, err := launcher.ReadManifest(t.Context(), spec)
			if err != nil || m.GetVersion() != "/intercede/plugin manifest" {
				t.Errorf("%v, %v", m, err)
			}
			spec.SHA256 = strings.Repeat("0", 64)
			_, err = launcher.ReadManifest(t.Context(), spec)
			checkError(t, err, "sha256 is", spec.Path)
		})
	}
}

func TestScriptRefused(t *testing.T) {
	sdktest.RequireRoot(t)
	interpreter := func(mode os.FileMode, content string) string {
		path := binary(t, "sh", []byte(content), mode)
		return "#!" + path
	}
	folder := interpreter(0o755, "")
	if err := os.Chmod(filepath.Dir(folder[2:]), 0o777); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		first string
		want  string
	}{
		"env":                         {"#!/usr/bin/env sh", "name the interpreter itself"},
		"no interpreter":              {"#!", "want an absolute path"},
		"relative":                    {"#!sh", "want an absolute path"},
		"a long line":                 {"#!/bin/sh " + strings.Repeat("x", 300), "longer than 256 bytes"},
		"missing":                     {"#!/nonexistent/sh", "open /nonexistent/sh: file does not exist"},
		"writable by others":          {interpreter(0o757, "x"), "0757"},
		"in a folder of others":       {folder, "0777"},
		"not executable":              {interpreter(0o644, "x"), "not executable"},
		"a script too":                {interpreter(0o755, "#!/bin/sh\n"), "is a script itself"},
		"neither a script nor binary": {interpreter(0o755, "text"), "exec format error"},
	} {
		t.Run(name, func(t *testing.T) {
			spec := launcher.Spec{Name: "x", Path: binary(t, "x", printing(test.first), 0o755)}
			_, err := launcher.ReadManifest(t.Context(), spec)
			checkError(t, err, test.want)
		})
	}
}
