package sdktest

import (
	"runtime"

	"github.com/intercede/intercede/sdk"
)

//go:generate go run ./internal/gensyscalls

// native is that of 64-bit programs.
func native() sdk.Arch { return arches()[0] }

// arches are those that a program on this machine can make calls of.
func arches() []sdk.Arch {
	if runtime.GOARCH == "arm64" {
		return []sdk.Arch{sdk.ArchAArch64, sdk.ArchARM}
	}
	return []sdk.Arch{sdk.ArchX86_64, sdk.ArchI386}
}
