package stage

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// folder has what Main builds.
var folder string

// production is the name of Production in it.
const production = "production"

// Production and Delayed are the folders of the programs under test: as they are installed, and with the delays of
// internal/pause.
var Production, Delayed string

// buildEnv names a folder for another machine: Main builds there, and runs no test.
const buildEnv = "INTERCEDE_TEST_BUILD"

// Kinds are what Main builds beside the programs under test as they are installed.
type Kinds struct {
	Delayed bool // the same with the delays of internal/pause
	I386    bool // the programs of testdata for i386 too, as NAME32
}

// Main runs the tests of a package in a folder of tests/, with the programs of the project and those that testdata has:
// C and Go programs of one file. It returns the exit status.
func Main(m *testing.M, kinds Kinds) int {
	if os.Getenv(machineEnv) != "" {
		folder, Production = sources, filepath.Join(sources, production)
		return m.Run()
	}
	var err error
	if folder = os.Getenv(buildEnv); folder != "" {
		return status(buildAll(kinds))
	}
	if folder, err = os.MkdirTemp("", "ic"); err != nil {
		return status(err)
	}
	defer os.RemoveAll(folder)
	if err := errors.Join(os.Chmod(folder, 0o755), buildAll(kinds)); err != nil {
		return status(err)
	}
	return m.Run()
}

// status reports an error, and returns the exit status.
func status(err error) int {
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

func buildAll(kinds Kinds) error {
	Production, Delayed = filepath.Join(folder, production), filepath.Join(folder, "delayed")
	err := build(Production)
	if kinds.Delayed {
		err = errors.Join(err, build(Delayed, "-tags", "intercede_delays"))
	}
	return errors.Join(err, compileAll(kinds.I386), buildOthers())
}

// build makes the programs from the sources, as `make build` does.
func build(dir string, flags ...string) error {
	mains, err := filepath.Glob("../../plugins/*/intercede-plugin-*")
	if err != nil {
		return err
	}
	packages := map[string]string{"intercede": "../../cmd/intercede"}
	for _, main := range mains {
		packages[filepath.Base(main)] = main
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

// compileAll makes the programs that testdata has in C: NAME of NAME.c, and NAME32 for i386.
func compileAll(i386 bool) error {
	sources, err := filepath.Glob("testdata/*.c")
	if err != nil {
		return err
	}
	for _, source := range sources {
		name := nameOf(source)
		if err := compile(name, source); err != nil {
			return err
		}
		if !i386 {
			continue
		}
		if err := compile(name+"32", source, "-m32"); err != nil {
			return err
		}
	}
	return nil
}

// nameOf is the name of a program by its source.
func nameOf(source string) string {
	name := filepath.Base(source)
	return name[:len(name)-len(filepath.Ext(name))]
}

// buildOthers makes the programs that testdata has in Go. They link statically.
func buildOthers() error {
	sources, err := filepath.Glob("testdata/*.go")
	if err != nil {
		return err
	}
	for _, source := range sources {
		command := exec.Command("go", "build", "-o", Program(nameOf(source)), source)
		command.Env = append(os.Environ(), "CGO_ENABLED=0")
		if output, err := command.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", command, err, output)
		}
	}
	return nil
}

// compile links statically: the programs need no file of a container's root.
func compile(name, source string, flags ...string) error {
	arguments := append(flags, "-static", "-O1", "-Wall", "-Wno-int-to-pointer-cast", "-Wno-pointer-to-int-cast", "-pthread",
		"-o", Program(name), source)
	if output, err := exec.Command("gcc", arguments...).CombinedOutput(); err != nil {
		return fmt.Errorf("gcc %s: %w\n%s", source, err, output)
	}
	return nil
}

// Program is the path of a program of testdata on the host.
func Program(name string) string { return filepath.Join(folder, name) }
