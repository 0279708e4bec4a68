package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/intercede/intercede/deploy/kubernetes/manifest"
)

// A field that is not translated is an error, at each depth.
func TestUnknownFields(t *testing.T) {
	for text, want := range map[string]string{
		"hostNetwork: true":                                            "spec.hostNetwork",
		"securityContext: {runAsUser: 1}":                              "spec.securityContext.runAsUser",
		"volumes: [{name: v, secret: {secretName: s}}]":                "spec.volumes.secret.secretName",
		"containers: [{name: c, tty: true}]":                           "spec.containers.tty",
		"initContainers: [{name: c, securityContext: {runAsUser: 1}}]": "spec.containers.securityContext.runAsUser",
	} {
		t.Run(text, func(t *testing.T) {
			found := parse(t, "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  "+text+"\n")
			if err := found.pods[0].checkKnown(); err == nil || !strings.Contains(err.Error(), want+" ") {
				t.Errorf("%v, want %s", err, want)
			}
		})
	}
}

func parse(t *testing.T, text string) *objects {
	t.Helper()
	list, err := manifest.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	found := &objects{handlers: map[string]string{}}
	for _, object := range list {
		if err := found.add(object); err != nil {
			t.Fatal(err)
		}
	}
	return found
}

// Every field of the manifests that are run is translated.
func TestManifestsAreKnown(t *testing.T) {
	files, err := filepath.Glob("../*.yaml")
	if err != nil || len(files) < 4 {
		t.Fatalf("manifests: %v, %v", files, err)
	}
	found, err := read(files)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range found.pods {
		if err := p.checkKnown(); err != nil {
			t.Errorf("%s: %v", p.Name, err)
		}
		if _, err := p.handler(found.handlers); err != nil {
			t.Errorf("%s: %v", p.Name, err)
		}
	}
}
