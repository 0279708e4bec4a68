package wire

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
)

// feature is something that the protocol has gained since its first state.
type feature struct {
	name  string
	since string // the first version of intercede that has it
	// neededBy reports whether the plugin of the manifest does wrong with a broker that lacks it; nil: no plugin does,
	// and one can look whether the broker has it.
	neededBy func(*Manifest) bool
}

// features are all of them: the broker has these, and a plugin that the SDK was built into needs some of them.
var features = []feature{
	{"compat", "0.1.0", func(m *Manifest) bool {
		return slices.ContainsFunc(m.GetSyscalls(), func(s *Syscall) bool { return s.GetCompat() != Compat_COMPAT_TAKE })
	}},
	{"reasons", "0.1.0", func(m *Manifest) bool { return len(m.GetReasons()) > 0 }},
	{"never_continue", "0.1.0", func(m *Manifest) bool { return m.GetNeverContinue() }},
	{"validate", "0.1.0", nil},
}

// What a plugin may say of what it needs: an error for people has it.
const maxNeeds = 32

var (
	featureName    = regexp.MustCompile(`^[a-z][a-z0-9_]{0,39}$`)
	featureVersion = regexp.MustCompile(`^[0-9]{1,6}(\.[0-9]{1,6}){2}$`)
)

// Features are the names of the features that this broker has.
func Features() []string {
	names := make([]string, 0, len(features))
	for _, f := range features {
		names = append(names, f.name)
	}
	return names
}

// DeclareProtocol puts into a manifest what the SDK speaks, and what the broker must have for the rest of the manifest.
func DeclareProtocol(m *Manifest) {
	m.Protocols = []uint32{ProtocolVersion}
	for _, f := range features {
		if f.neededBy != nil && f.neededBy(m) {
			m.Needs = append(m.Needs, &Feature{Name: f.name, Since: f.since})
		}
	}
}

// ParseManifest reads what `PLUGIN manifest` prints, and checks it as a whole.
func ParseManifest(text []byte) (*Manifest, error) {
	// What it says of the protocol comes first: the rest may have a form that is not known here.
	m := &Manifest{}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(text, m); err != nil {
		return nil, fmt.Errorf("it does not print a manifest: is it a plugin of intercede? %w", err)
	}
	if err := checkProtocol(m); err != nil {
		return nil, err
	}
	m = &Manifest{}
	if err := protojson.Unmarshal(text, m); err != nil {
		return nil, fmt.Errorf("its manifest has what this intercede does not know: if it was made for a newer one, install that: %w", err)
	}
	return m, CheckManifest(m)
}

// checkProtocol says what keeps this broker from serving the plugin of the manifest, and what to do.
func checkProtocol(m *Manifest) error {
	spoken := m.GetProtocols()
	if len(spoken) == 0 {
		spoken = []uint32{1}
	}
	if !slices.Contains(spoken, ProtocolVersion) {
		return ProtocolError(slices.Max(spoken))
	}
	if n := len(m.GetNeeds()); n > maxNeeds {
		return fmt.Errorf("needs %d features: want %d at most", n, maxNeeds)
	}
	var missing []string
	for _, need := range m.GetNeeds() {
		if !featureName.MatchString(need.GetName()) || !featureVersion.MatchString(need.GetSince()) {
			return errors.New(`needs a feature without a good name and version: want some such as "reasons" and "0.1.0"`)
		}
		if !slices.Contains(Features(), need.GetName()) {
			missing = append(missing, fmt.Sprintf("needs intercede ≥ %s: this one lacks the feature %q", need.GetSince(), need.GetName()))
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("%s; upgrade intercede, or install a version of the plugin for this one", strings.Join(missing, "; "))
	}
	return nil
}

// ProtocolError is the error of a plugin that speaks another version of the protocol.
func ProtocolError(spoken uint32) error {
	const text = "speaks version %d of the plugin protocol, and this intercede version %d: "
	if spoken > ProtocolVersion {
		return fmt.Errorf(text+"upgrade intercede, or install a version of the plugin for this one", spoken, ProtocolVersion)
	}
	return fmt.Errorf(text+"install a newer version of the plugin, or build it with a newer SDK", spoken, ProtocolVersion)
}
