package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/intercede/intercede/internal/linux"
	"github.com/intercede/intercede/internal/wire"
)

// servedScriptFD is the descriptor of the mount of the script, where the process serves.
const servedScriptFD = socketFD + 1

// scriptPath is where the process finds the script that it is to interpret.
const scriptPath = wire.OwnDir + "/plugin"

// Interpreter is what executes a plugin that is a script.
type Interpreter struct {
	Path     string // of the script's first line
	Argument string // of that line; empty: none
	File     *os.File
}

// maxShebang bounds the first line of a script, in bytes (BINPRM_BUF_SIZE, include/uapi/linux/binfmts.h).
const maxShebang = 256

// FindInterpreter reads what the first line of a plugin's file says of its interpreter, as the kernel does
// (fs/binfmt_script.c); nil: it is not a script. The interpreter's file is not opened.
//
// The script is not executed by way of that line, because the interpreter would open it by a path that leads to
// whatever is there by then.
func FindInterpreter(file io.ReaderAt) (*Interpreter, error) {
	head := make([]byte, maxShebang)
	n, err := file.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	line, isScript := bytes.CutPrefix(head[:n], []byte("#!"))
	if !isScript {
		return nil, nil
	}
	line, _, ended := bytes.Cut(line, []byte{'\n'})
	if !ended {
		return nil, fmt.Errorf("its first line, which names its interpreter, is longer than %d bytes", maxShebang)
	}
	path, argument, _ := bytes.Cut(bytes.Trim(line, " \t"), []byte{' '})
	i := &Interpreter{Path: string(path), Argument: string(bytes.Trim(argument, " \t"))}
	switch {
	case !filepath.IsAbs(i.Path) || bytes.ContainsAny(line, "\x00"):
		return nil, fmt.Errorf("its first line names the interpreter %q: want an absolute path", i.Path)
	case filepath.Base(i.Path) == "env":
		return nil, fmt.Errorf("its first line names %s, which would execute another program, and a plugin's process may not: name the interpreter itself", i.Path)
	}
	return i, nil
}

// files are read-only mounts of what a process executes, and interprets.
type files struct {
	executed, script *os.File // script is nil if it is not one
	interpreter      *Interpreter
}

func cloneFiles(binary *os.File, interpreter *Interpreter) (*files, error) {
	clone, err := linux.CloneReadOnly(binary)
	if err != nil {
		return nil, err
	}
	if interpreter == nil {
		return &files{executed: clone}, nil
	}
	f := &files{script: clone, interpreter: interpreter}
	if f.executed, err = linux.CloneReadOnly(interpreter.File); err != nil {
		clone.Close()
		return nil, err
	}
	return f, nil
}

func (f *files) close() {
	f.executed.Close()
	if f.script != nil {
		f.script.Close()
	}
}

// arguments are those of the process, the zeroth included: the path of the binary, or as the kernel makes them for a
// script.
func (f *files) arguments(path string, args ...string) []string {
	if f.interpreter == nil {
		return append([]string{path}, args...)
	}
	all := []string{f.interpreter.Path}
	if f.interpreter.Argument != "" {
		all = append(all, f.interpreter.Argument)
	}
	return append(append(all, scriptPath), args...)
}
