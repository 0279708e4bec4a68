package wire

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	protobuf "google.golang.org/protobuf/proto"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// gain adds features for a test.
func gain(t *testing.T, more ...feature) {
	before := features
	features = append(features[:len(features):len(features)], more...)
	t.Cleanup(func() { features = before })
}

func printed(t *testing.T, m *Manifest) []byte {
	t.Helper()
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestNeeds has a broker of today meet a plugin of tomorrow, whose SDK knows a feature more.
func TestNeeds(t *testing.T) {
	m := &Manifest{
		Name: "x", Version: "1", Syscalls: []*Syscall{{Name: "getppid"}}, OnFailure: &Verdict{Kind: &Verdict_Continue{Continue: true}},
	}
	plain, wanting := protobuf.Clone(m).(*Manifest), protobuf.Clone(m).(*Manifest)
	wanting.AnyContainer = true
	t.Run("tomorrow", func(t *testing.T) {
		gain(t, feature{name: "telepathy", since: "0.7.0", neededBy: (*Manifest).GetAnyContainer}, feature{name: "dreams", since: "0.8.0"})
		for _, m := range []*Manifest{plain, wanting} {
			DeclareProtocol(m)
			if _, err := ParseManifest(printed(t, m)); err != nil {
				t.Errorf("it has what the plugin needs: %v", err)
			}
		}
		if names := strings.Join(Features(), " "); !strings.HasSuffix(names, "telepathy dreams") {
			t.Errorf("the broker says that it has %q", names)
		}
	})
	if len(plain.GetNeeds()) != 0 {
		t.Errorf("needs without a need: %v", plain.GetNeeds())
	}
	if _, err := ParseManifest(printed(t, plain)); err != nil {
		t.Error(err)
	}
	_, err := ParseManifest(printed(t, wanting))
	if err == nil || !strings.Contains(err.Error(), `needs intercede ≥ 0.7.0: this one lacks the feature "telepathy"`) {
		t.Errorf("got %v", err)
	}
}

// TestParseManifest has manifests that plugins for other versions of intercede print.
func TestParseManifest(t *testing.T) {
	const rest = `"name":"x","version":"1","on_failure":{"continue":true},"syscalls":[{"name":"getppid"}]`
	for name, test := range map[string]struct {
		text string
		want string // of the error; empty: there is none
	}{
		"says nothing of the protocol": {`{` + rest + `}`, ""},
		"speaks this and another":      {`{` + rest + `,"protocols":[1,7]}`, ""},
		"speaks a newer one": {`{` + rest + `,"protocols":[7]}`,
			"speaks version 7 of the plugin protocol, and this intercede version 1: up"},
		"speaks an older one": {`{` + rest + `,"protocols":[0]}`,
			"speaks version 0 of the plugin protocol, and this intercede version 1: in"},
		"has a field that is not known": {
			`{` + rest + `,"aura":"green"}`, "its manifest has what this intercede does not know: if it was made for a newer one, install that",
		},
		"says what it needs for that": {
			`{` + rest + `,"aura":"green","needs":[{"name":"aura","since":"0.9.0"}]}`, "needs intercede ≥ 0.9.0",
		},
		"needs escapes":    {`{` + rest + `,"needs":[{"name":"\u001b[2J","since":"0.1.0"}]}`, "without a good name and version"},
		"needs no version": {`{` + rest + `,"needs":[{"name":"aura"}]}`, "without a good name and version"},
		"needs too much":   {`{` + rest + `,"needs":[` + strings.Repeat(`{},`, 32) + `{}]}`, "needs 33 features: want 32 at most"},
		"is no manifest":   {`hello`, "it does not print a manifest: is it a plugin of intercede?"},
		"is a bad one":     {`{"name":"x","version":"1"}`, "no syscalls"},
		"prints something": {``, "it does not print a manifest"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseManifest([]byte(test.text))
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

// TestFeaturesOnPage has the page that authors read say which feature came with which version.
func TestFeaturesOnPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/plugins/versioning.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range features {
		if line := fmt.Sprintf("| `%s` | %s |", f.name, f.since); !strings.Contains(string(page), line) {
			t.Errorf("docs/plugins/versioning.md has no line %q", line)
		}
	}
}

// TestOldCompilers keeps plugin.proto to what protoc 3.12 compiles, without flags: distributions have it for a long
// time.
func TestOldCompilers(t *testing.T) {
	file := File_plugin_proto
	if file.Syntax() != protoreflect.Proto3 {
		t.Errorf("its syntax is %v", file.Syntax())
	}
	var look func(protoreflect.MessageDescriptors)
	look = func(messages protoreflect.MessageDescriptors) {
		for i := range messages.Len() {
			fields := messages.Get(i).Fields()
			for j := range fields.Len() {
				if f := fields.Get(j); f.HasOptionalKeyword() {
					t.Errorf("%s is optional, which protoc knows from 3.15 on: make it a oneof of its own", f.FullName())
				}
			}
			look(messages.Get(i).Messages())
		}
	}
	look(file.Messages())
}
