package attacks

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// folder has what the tests build: the programs under test and those of the attackers.
var folder string

// production and delayed are the folders of the programs under test: as they are installed, and with the delays of
// internal/pause.
var production, delayed string

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	var err error
	if folder, err = os.MkdirTemp("", "ic"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(folder)
	production, delayed = filepath.Join(folder, "production"), filepath.Join(folder, "delayed")
	if err := errors.Join(os.Chmod(folder, 0o755), build(production), build(delayed, "-tags", "intercede_delays"), compileAll()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	status := m.Run()
	summary.print()
	return status
}

// build makes the programs from the sources, as `make build` does.
func build(dir string, flags ...string) error {
	mains, err := filepath.Glob("../../plugins/*/main.go")
	if err != nil {
		return err
	}
	packages := map[string]string{"intercede": "../../cmd/intercede"}
	for _, main := range mains {
		packages["intercede-plugin-"+filepath.Base(filepath.Dir(main))] = filepath.Dir(main)
	}
	for name, source := range packages {
		if err := goBuild(filepath.Join(dir, name), source, flags...); err != nil {
			return err
		}
	}
	return os.Chmod(dir, 0o755)
}

func goBuild(path, source string, flags ...string) error {
	command := exec.Command("go", append(append([]string{"build"}, flags...), "-o", path, "./"+source)...)
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", command, err, output)
	}
	return nil
}

// compileAll makes the programs of the attackers: NAME of testdata/NAME.c, and NAME32 for i386.
func compileAll() error {
	sources, err := filepath.Glob("testdata/*.c")
	if err != nil {
		return err
	}
	for _, source := range sources {
		name := filepath.Base(source[:len(source)-len(".c")])
		if err := errors.Join(compile(name, source), compile(name+"32", source, "-m32")); err != nil {
			return err
		}
	}
	return nil
}

// compile links statically: the programs need no file of a container's root.
func compile(name, source string, flags ...string) error {
	arguments := append(flags, "-static", "-O1", "-Wall", "-Wno-int-to-pointer-cast", "-Wno-pointer-to-int-cast", "-pthread",
		"-o", attacker(name), source)
	if output, err := exec.Command("gcc", arguments...).CombinedOutput(); err != nil {
		return fmt.Errorf("gcc %s: %w\n%s", source, err, output)
	}
	return nil
}

// attacker is the path of a program of testdata on the host.
func attacker(name string) string { return filepath.Join(folder, name) }
