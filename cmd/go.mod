module github.com/intercede/intercede/cmd

go 1.26.0

require (
	github.com/intercede/intercede/core v0.1.0
	github.com/intercede/intercede/sdk v0.1.0
	github.com/rs/zerolog v1.35.1
	github.com/spf13/cobra v1.10.2
	golang.org/x/sys v0.49.0
)
