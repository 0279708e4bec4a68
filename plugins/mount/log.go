package main

import (
	"fmt"
	"log"
	"os"

	"github.com/intercede/intercede/sdk"
)

// logger writes lines that go-plugin takes for warnings. It is made before Serve, which gives os.Stderr away.
var logger = log.New(os.Stderr, "[WARN] ", 0)

// warn writes a line to the broker's log. What a container chose is to be quoted (%q).
func warn(container *sdk.Container, format string, args ...any) {
	logger.Printf("container %q: %s", container.ID, fmt.Sprintf(format, args...))
}
