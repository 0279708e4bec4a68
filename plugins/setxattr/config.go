package main

import (
	"fmt"
	"strings"

	"github.com/intercede/intercede/sdk"
)

// config are the plugin's settings.
type config struct {
	Attributes []string `json:"attributes"`
	Read       bool     `json:"read"`
}

// defaultAttributes mark a directory of an overlay's upper layer that hides the lower ones; "x", since Linux 6.7, one
// that may have whiteouts in extended attributes (Documentation/filesystems/overlayfs.rst).
var defaultAttributes = []string{"trusted.overlay.opaque=y", "trusted.overlay.opaque=x"}

// readSetting switches the calls on that read and remove.
const readSetting = "read"

var settings = []sdk.Setting{{
	Key:     "attributes",
	Type:    sdk.StringList,
	Default: defaultAttributes,
	Help:    "attributes that may be set, as trusted.NAME=VALUE; VALUE is one character",
	Pattern: `trusted\.[!-<>-~]{1,247}=[!-~]`,
	Example: "trusted.overlay.opaque=y",
}, {
	Key:     readSetting,
	Type:    sdk.Bool,
	Default: false,
	Help:    "whether the same attributes may be read and removed; getxattr and its kin then cost more, whatever they read",
}}

// maxName is the length of the longest name, in bytes (XATTR_NAME_MAX, linux/limits.h).
const maxName = 255

// parseAttribute reads "trusted.overlay.opaque=y".
func parseAttribute(text string) (name, value string, err error) {
	name, value, _ = strings.Cut(text, "=")
	rest, trusted := strings.CutPrefix(name, "trusted.")
	if !trusted || rest == "" || len(name) > maxName || !printable(name) || len(value) != 1 || !printable(value) {
		return "", "", fmt.Errorf("attribute %q: want trusted.NAME=VALUE, for example \"trusted.overlay.opaque=y\"; VALUE is one character, all are printable", text)
	}
	return name, value, nil
}

// printable reports whether all is ASCII, without spaces and control characters.
func printable(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' })
}

func (c config) policy() (policy, error) {
	p := policy{}
	for _, text := range c.Attributes {
		name, value, err := parseAttribute(text)
		if err != nil {
			return nil, err
		}
		p[name] += value
	}
	return p, nil
}
