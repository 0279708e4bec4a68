package policy

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/intercede/intercede/core/policy/config"
)

// maxShown bounds a container's value in a message, in bytes.
const maxShown = 64

// mismatch says why the condition does not hold; empty: it does.
func mismatch(c config.Condition, d *Description) string {
	values := d.values(c.Key, c.Name)
	if len(values) == 0 {
		return "no " + subject(c)
	}
	for _, value := range values {
		if c.Matches(value) {
			return ""
		}
	}
	shown := make([]string, len(values))
	for i, value := range values {
		shown[i] = shorten(value)
	}
	return fmt.Sprintf("%s %s is not %s", subject(c), strings.Join(shown, ", "), c.Wanted())
}

// subject names what the condition is about.
func subject(c config.Condition) string {
	switch c.Key {
	case "annotations":
		return "annotation " + c.Name
	case "labels":
		return "label " + c.Name
	}
	return c.Key
}

// shorten quotes what others wrote, at a bounded length.
func shorten(text string) string {
	if len(text) > maxShown {
		text = strings.ToValidUTF8(text[:maxShown], "") + "..."
	}
	return strconv.Quote(text)
}
