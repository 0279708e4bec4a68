package sdktest

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/intercede/intercede/internal/require"
	"github.com/intercede/intercede/sdk"
)

// TestNumbers has the C compiler hold the tables of this machine's architectures against the kernel's headers, in so
// far as these know a call: they may be older than the tables.
func TestNumbers(t *testing.T) {
	for i, compiler := range [][]string{compiler64, compiler32()} {
		arch := arches()[i]
		source := "#include <asm/unistd.h>\n"
		for name, number := range numbers[arch] {
			source += fmt.Sprintf("#ifdef __NR_%[1]s\n_Static_assert(__NR_%[1]s == %[2]d, \"%[1]s\");\n#endif\n", name, number)
		}
		gcc := exec.Command(compiler[0], append(compiler[1:], "-fsyntax-only", "-x", "c", "-")...)
		gcc.Stdin = strings.NewReader(source)
		if text, err := gcc.CombinedOutput(); err != nil {
			require.Lacking(t, "%#x: %v\n%s", uint32(arch), err, text)
		}
	}
}

// TestCallerKnowsAll finds each call of the Go tables in those of the caller.
func TestCallerKnowsAll(t *testing.T) {
	tables := strings.Split(callerSyscalls, "#endif\n")
	for i, arch := range []sdk.Arch{sdk.ArchX86_64, sdk.ArchI386, sdk.ArchAArch64, sdk.ArchARM} {
		t.Run(fmt.Sprintf("%#x", uint32(arch)), func(t *testing.T) {
			if len(numbers[arch]) < 300 {
				t.Errorf("only %d calls", len(numbers[arch]))
			}
			for name, number := range numbers[arch] {
				if !strings.Contains(tables[i], fmt.Sprintf("\tNR(%q, %d)", name, number)) {
					t.Errorf("the caller does not know %s, %d", name, number)
				}
			}
		})
	}
}
