// Package kubernetes checks the manifests of this folder. It is a module of its own, outside go.work, so that nothing
// of intercede depends on Kubernetes.
package kubernetes

import (
	"os"
	"path/filepath"
	"testing"

	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/client-go/kubernetes/scheme"
)

// strict decodes one YAML document, and gives an error for what Kubernetes' types do not have.
var strict = json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme.Scheme, scheme.Scheme,
	json.SerializerOptions{Yaml: true, Strict: true})

// Every object is one of Kubernetes' own kinds, with no field that the kind lacks and no value of another type.
func TestManifests(t *testing.T) {
	files, err := filepath.Glob("*.yaml")
	if err != nil || len(files) < 4 {
		t.Fatalf("manifests: %v, %v", files, err)
	}
	for _, file := range files {
		t.Run(file, func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := strict.Decode(text, nil, nil); err != nil {
				t.Error(err)
			}
		})
	}
}

// The check is one: it refuses what is not in the schema.
func TestManifestsAreChecked(t *testing.T) {
	for name, text := range map[string]string{
		"unknown kind":  "apiVersion: v1\nkind: Pot\n",
		"unknown field": "apiVersion: v1\nkind: Pod\nspec: {hostUser: false}\n",
		"other type":    "apiVersion: v1\nkind: Pod\nspec: {hostUsers: {}}\n",
		"twice":         "apiVersion: v1\nkind: Pod\nspec: {hostUsers: true, hostUsers: false}\n",
	} {
		t.Run(name, func(t *testing.T) {
			if object, _, err := strict.Decode([]byte(text), nil, nil); err == nil {
				t.Errorf("accepted: %v", object)
			}
		})
	}
}
