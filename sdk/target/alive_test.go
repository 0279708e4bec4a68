package target

import (
	"errors"
	"os"
	"os/exec"
	"testing"
)

func TestAlive(t *testing.T) {
	child := exec.Command("sleep", "1000")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	opened, err := Open(child.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	if err := opened.Alive(); err != nil {
		t.Errorf("a running process: %v", err)
	}
	child.Process.Kill()
	child.Wait()
	if err := opened.Alive(); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("one that is gone: %v", err)
	}
}
