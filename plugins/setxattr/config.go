package setxattr

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/intercede/intercede/sdk"
)

// config are the plugin's settings.
type config struct {
	Attributes []string `json:"attributes"`
	MaxSize    int      `json:"max_size"`
	Read       bool     `json:"read"`
}

// defaultAttributes mark a directory of an overlay's upper layer that hides the lower ones; "x", since Linux 6.7, one
// that may have whiteouts in extended attributes (Documentation/filesystems/overlayfs.rst).
var defaultAttributes = []string{"trusted.overlay.opaque=y", "trusted.overlay.opaque=x"}

// Keys of settings.
const (
	attributesSetting = "attributes"
	readSetting       = "read" // switches the calls on that read, list and remove
)

// Limits of the kernel's (linux/limits.h), in bytes.
const (
	maxName  = 255      // XATTR_NAME_MAX
	maxValue = 64 << 10 // XATTR_SIZE_MAX
	maxNames = 64 << 10 // XATTR_LIST_MAX
)

// attributePattern is what the broker checks: printable ASCII without spaces, names without "=" and "*". A "*" in a
// value would look like a pattern, which it is not.
const attributePattern = `(?:trusted\.[!-)+-<>-~]{1,247}|security\.[!-)+-<>-~]{1,246})(?:=[!-)+-~]{1,255})?|` +
	`(?:trusted\.[!-)+-<>-~]{0,246}|security\.[!-)+-<>-~]{0,245})\*|overlay\.(?:redirect|metacopy|origin)`

// Patterns of entries that need calls of these sizes notified: one character, and any other.
const (
	oneCharacter = `[^=]+=.`
	otherSizes   = `[^=]+|[^=]+=..+`
)

func bound(n int64) *int64 { return &n }

var settings = []sdk.Setting{{
	Key:     attributesSetting,
	Type:    sdk.StringList,
	Default: defaultAttributes,
	Help: "attributes that may be set: NAME=VALUE, or NAME or PREFIX* with any value, where NAME and PREFIX begin with trusted. or security., " +
		`and VALUE has no "*" and no space; or "overlay.redirect", "overlay.metacopy", "overlay.origin"`,
	Pattern: attributePattern,
	Example: "trusted.overlay.opaque=y",
}, {
	Key:     "max_size",
	Type:    sdk.Int,
	Default: 4096,
	Help:    "the longest value, in bytes, of an attribute that is listed without one",
	Min:     bound(0),
	Max:     bound(maxValue),
}, {
	Key:     readSetting,
	Type:    sdk.Bool,
	Default: false,
	Help:    "whether the same attributes may be read, listed and removed; getxattr, listxattr and their kin then cost more, whatever they read",
}}

// maxOverlayValue is more than overlayfs writes into an attribute: OVL_REDIRECT_MAX is 256 (fs/overlayfs/overlayfs.h).
const maxOverlayValue = 256

var wholePattern = regexp.MustCompile(`^(?:` + attributePattern + `)$`)

// parseAttribute reads an entry of the setting attributes. maxSize is for entries without a value.
func parseAttribute(text string, maxSize int) (rule, error) {
	if !wholePattern.MatchString(text) {
		if name, value, _ := strings.Cut(text, "="); strings.Contains(value, "*") {
			return rule{}, fmt.Errorf("attribute %q: a value has no \"*\": list the name alone to allow any value: %q", text, name)
		}
		return rule{}, fmt.Errorf("attribute %q: want NAME=VALUE, NAME or PREFIX*, where NAME and PREFIX begin with trusted. or security., for "+
			"example \"trusted.overlay.opaque=y\"; or \"overlay.redirect\", \"overlay.metacopy\" or \"overlay.origin\"; all is printable ASCII "+
			"without spaces", text)
	}
	if strings.HasPrefix(text, "overlay.") {
		return rule{name: trusted + text, limit: maxOverlayValue}, nil
	}
	name, value, hasValue := strings.Cut(text, "=")
	r := rule{name: name, value: value, hasValue: hasValue, limit: maxSize}
	if hasValue {
		r.limit = len(value)
	}
	r.name, r.isPrefix = strings.CutSuffix(name, "*")
	if r.coversLSM() {
		return rule{}, fmt.Errorf("attribute %q: %w", text, errLSM)
	}
	return r, nil
}

var errLSM = errors.New("the host's security modules obey security.capability, security.ima, security.evm, security.selinux, " +
	"security.apparmor and security.SMACK64*: they cannot be listed, nor a prefix of them")

// lsmNames are the attributes that say what a file may do on the host (linux/xattr.h).
var lsmNames = []string{"security.capability", "security.ima", "security.evm", "security.selinux", "security.apparmor", smackPrefix}

const smackPrefix = "security.SMACK64"

// coversLSM reports whether the rule is about an attribute of the host's security modules.
func (r rule) coversLSM() bool {
	return strings.HasPrefix(r.name, smackPrefix) || slices.ContainsFunc(lsmNames, r.matches)
}

// layerNames are the attributes by which a file of an overlay's layer says which other file of the layers is shown (see
// the page of the plugin).
var layerNames = []string{trusted + "overlay.redirect", trusted + "overlay.metacopy", trusted + "overlay.origin"}

// danger says what containers gain by the rule on the host, and what to do; empty: nothing.
func (r rule) danger() string {
	const gain = "where the host mounts an overlay over files of the container, they may have it show other files of its lower layers"
	switch {
	case !slices.ContainsFunc(layerNames, r.matches):
		return ""
	case r.isPrefix:
		return "trusted.overlay.redirect or its kin is among these: " + gain + ": list the names that are meant, or a longer prefix"
	}
	return gain + ": list it only where nobody mounts layers of the container over files that it is not to read"
}

func (c config) policy() (policy, error) {
	var p policy
	for _, text := range c.Attributes {
		r, err := parseAttribute(text, c.MaxSize)
		if err != nil {
			return nil, err
		}
		p = append(p, r)
	}
	return p, nil
}
