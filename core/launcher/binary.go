package launcher

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"

	"github.com/intercede/intercede/internal/linux"
	"golang.org/x/sys/unix"
)

// binary is a plugin's binary, which stays open: the descriptor that is checked is also what is executed. So a restart
// executes what the first start did, whatever is at the path by then: its containers have that one's manifest.
type binary struct {
	*os.File
	path   string
	opened os.FileInfo // as the file was then
	script *script     // nil: it is not one
}

// openBinary opens a plugin's binary, and the interpreter of a script, if they may be trusted, see openFile.
func openBinary(path, wantSHA256 string) (*binary, error) {
	b, err := openFile(path, wantSHA256)
	if err != nil {
		return nil, err
	}
	if b.script, err = openScript(b); err != nil {
		b.Close()
		return nil, fmt.Errorf("plugin binary %s: %w", path, err)
	}
	return b, nil
}

// openFile opens a regular executable file that, like every folder above it, only root or the broker's own user can
// change, with the wanted SHA-256 (in hex; empty: any).
func openFile(path, wantSHA256 string) (*binary, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // a FIFO would wait for its writer
	if err != nil {
		return nil, fmt.Errorf("plugin binary: %w; build and install it, or set its path in the config", err)
	}
	b := &binary{File: file, path: path}
	if err := b.checkOpened(wantSHA256); err != nil {
		file.Close()
		return nil, err
	}
	return b, nil
}

// Close closes the file, and that of a script's interpreter.
func (b *binary) Close() error {
	return errors.Join(b.File.Close(), b.script.close())
}

// checkOpened checks a binary that was just opened, with the folders on the way to it.
func (b *binary) checkOpened(wantSHA256 string) (err error) {
	if b.opened, err = b.Stat(); err != nil {
		return err
	}
	if err := b.check(wantSHA256); err != nil {
		return err
	}
	if err := linux.CheckFolders(b.path); err != nil {
		return fmt.Errorf("plugin binary %s: %w", b.path, err)
	}
	return nil
}

// check checks the open file, before each start: it may have been changed.
func (b *binary) check(wantSHA256 string) error {
	if err := checkFile(b.File, wantSHA256); err != nil {
		return fmt.Errorf("plugin binary %s: %w", b.path, err)
	}
	return b.script.check()
}

// isCurrent reports whether the open file is still what is at its path, unchanged.
func (b *binary) isCurrent() bool {
	now, err := os.Stat(b.path)
	return err == nil && os.SameFile(now, b.opened) && now.Size() == b.opened.Size() && now.ModTime().Equal(b.opened.ModTime()) &&
		b.script.isCurrent()
}

func checkFile(file *os.File, wantSHA256 string) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("not a regular file")
	}
	if info.Mode()&0o111 == 0 {
		return fmt.Errorf("not executable: chmod +x")
	}
	if err := linux.CheckOwner(file.Fd()); err != nil {
		return err
	}
	if wantSHA256 == "" {
		return nil
	}
	return checkSum(file, wantSHA256)
}

func checkSum(file *os.File, want string) error {
	hash := sha256.New()
	if _, err := io.Copy(hash, io.NewSectionReader(file, 0, math.MaxInt64)); err != nil {
		return err
	}
	if got := hex.EncodeToString(hash.Sum(nil)); !strings.EqualFold(got, want) {
		return fmt.Errorf("sha256 is %s, the config wants %s", got, want)
	}
	return nil
}
