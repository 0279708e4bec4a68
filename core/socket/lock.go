package socket

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// lockFile is an empty file on which this process holds an exclusive flock.
type lockFile struct {
	file *os.File
	info fs.FileInfo
}

// errDying means that the lock file of a dying process was removed.
var errDying = errors.New("the lock's holder is dying")

// acquireLock creates and locks the file at path, mode 0600, without waiting. The previous holder may remove the file
// between our open and our flock, which would leave us a lock that nobody else sees; so the lock counts only if the
// path still names the file that we locked.
//
// Returns an error wrapping [ErrInUse] when another holds it, and fs.ErrExist when the file is not an empty regular
// one.
func acquireLock(path string) (*lockFile, error) {
	for {
		lock, err := lockOnce(path)
		if errors.Is(err, errDying) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("locking %q: %w", path, err)
		}
		named, err := os.Lstat(path)
		if err == nil && os.SameFile(named, lock.info) {
			return lock, nil
		}
		lock.file.Close()
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("locking %q: %w", path, err)
		}
	}
}

func lockOnce(path string) (*lockFile, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, err
	}
	info, err := flockEmpty(file)
	if err != nil {
		file.Close()
		if errors.Is(err, ErrInUse) {
			err = unlessDying(err, path, info)
		}
		return nil, err
	}
	return &lockFile{file: file, info: info}, nil
}

// unlessDying is err, or errDying.
func unlessDying(err error, path string, info fs.FileInfo) error {
	taken, failure := takeFromDying(path, info)
	if taken && failure == nil {
		return errDying
	}
	return errors.Join(err, failure)
}

// flockEmpty locks a file that must be empty. With ErrInUse it returns the file's identity, too.
func flockEmpty(file *os.File) (fs.FileInfo, error) {
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() != 0 {
		return nil, fmt.Errorf("%w: it is not an empty file; move it away or choose another socket path", fs.ErrExist)
	}
	err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return info, fmt.Errorf("%w: stop it or choose another path", ErrInUse)
	}
	return info, os.NewSyscallError("flock", err)
}

// release removes the file, where it is still ours, and then lets go of it.
func (l *lockFile) release() error {
	return errors.Join(removeIfSame(l.file.Name(), l.info), l.file.Close())
}
