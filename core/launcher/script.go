package launcher

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/intercede/intercede/internal/sandbox"
)

// script is what a plugin's binary has beside itself if it is a script: the interpreter, which is opened, checked and
// executed as a binary is. The sum of the config is the script's.
type script struct {
	interpreter *binary
	said        *sandbox.Interpreter
}

// openScript opens the interpreter of a script; nil: it is not one.
func openScript(b *binary) (*script, error) {
	said, err := sandbox.FindInterpreter(b.File)
	if said == nil || err != nil {
		return nil, err
	}
	interpreter, err := openFile(said.Path, "")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("its interpreter: %w", &fs.PathError{Op: "open", Path: said.Path, Err: fs.ErrNotExist})
	}
	if err != nil {
		return nil, fmt.Errorf("its interpreter: %w", err)
	}
	if next, err := sandbox.FindInterpreter(interpreter.File); next != nil || err != nil {
		interpreter.Close()
		return nil, fmt.Errorf("its interpreter %s is a script itself: name the one of that", said.Path)
	}
	said.File = interpreter.File
	return &script{interpreter, said}, nil
}

// how is how the sandbox executes the script; nil: it is not one.
func (s *script) how() *sandbox.Interpreter {
	if s == nil {
		return nil
	}
	return s.said
}

func (s *script) check() error {
	if s == nil {
		return nil
	}
	return s.interpreter.check("")
}

func (s *script) isCurrent() bool { return s == nil || s.interpreter.isCurrent() }

func (s *script) close() error {
	if s == nil {
		return nil
	}
	return s.interpreter.Close()
}
