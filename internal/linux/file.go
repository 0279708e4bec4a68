package linux

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// ErrNotRegular means that a file that ought to be a regular one is something else.
var ErrNotRegular = errors.New("not a regular file")

// ReadRegular reads a regular file of up to most bytes that somebody else may have made: a FIFO is not waited for. The
// error is of opening or reading it, with fs.ErrNotExist if there is none, wraps ErrNotRegular, or says that it is
// larger.
func ReadRegular(path string, most int64) ([]byte, fs.FileInfo, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, nil, ErrNotRegular
	}
	text, err := io.ReadAll(io.LimitReader(file, most+1))
	if err != nil {
		return nil, nil, err
	}
	if int64(len(text)) > most {
		return nil, nil, fmt.Errorf("larger than %d bytes", most)
	}
	return text, info, nil
}
