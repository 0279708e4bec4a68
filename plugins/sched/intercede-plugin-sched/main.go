// Command intercede-plugin-sched changes scheduling policies for unprivileged containers; see README.md.
package main

import (
	"github.com/intercede/intercede/plugins/sched"
	"github.com/intercede/intercede/sdk"
)

func main() { sdk.Serve(sched.Plugin) }
