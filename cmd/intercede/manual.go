//go:build manual

package main

import (
	"fmt"
	"os"

	"github.com/intercede/intercede/cmd/internal/cli"
	"github.com/intercede/intercede/internal/version"
	"github.com/spf13/cobra/doc"
)

// With the build tag manual the program writes its manual pages into the folder that it is given. SOURCE_DATE_EPOCH is
// their date.
func init() {
	root := rootCommand()
	root.DisableAutoGenTag = true
	header := &doc.GenManHeader{Section: "1", Source: "intercede " + version.Number(), Manual: "Intercede"}
	if err := doc.GenManTree(root, header, os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(cli.ExitFailure)
	}
	os.Exit(0)
}
