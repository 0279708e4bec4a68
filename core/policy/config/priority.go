package config

import (
	"strconv"
	"strings"

	"github.com/intercede/intercede/internal/linux"
)

// priority stores a nice value, or a real-time priority.
func (t *table) priority(name string, into *linux.Priority) {
	value, ok := t.get(name)
	if !ok {
		return
	}
	switch v := value.(type) {
	case int64:
		if v >= -20 && v <= 0 {
			*into = linux.Priority{Nice: int(v)}
			return
		}
	case string:
		fifo, ok := strings.CutPrefix(v, "fifo:")
		if n, err := strconv.Atoi(fifo); ok && err == nil && n >= 1 && n <= 99 {
			*into = linux.Priority{FIFO: n}
			return
		}
	}
	t.fault(name, `%s: want a nice value, -20 to 0, or "fifo:1" to "fifo:99"`, literal(value))
}
