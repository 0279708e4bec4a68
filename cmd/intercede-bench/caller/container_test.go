package caller

import (
	"fmt"
	"os"
	"testing"

	"github.com/intercede/intercede/internal/linux"
	"github.com/intercede/intercede/sdk/sdktest"
)

// asProgram is the argument with which the test binary is the program that Start runs.
const asProgram = "serve"

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == asProgram {
		if err := Serve(os.Stdin, os.Stdout, map[string]Call{"getppid": Getppid()}); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestNativeOutlivesThread starts the process from a thread that ends then, as the Go runtime's do when a goroutine
// that is locked to one does.
func TestNativeOutlivesThread(t *testing.T) {
	sdktest.RequireRoot(t)
	type started struct {
		c   *Caller
		err error
	}
	done := make(chan started)
	linux.GoOnThread(func() {
		c, err := StartNative(t.Context(), []string{asProgram})
		done <- started{c, err}
	})
	s := <-done
	if s.err != nil {
		t.Fatal(s.err)
	}
	defer s.c.Close()
	for range 20 {
		if _, errno, err := s.c.Measure(t.Context(), "getppid", 100, 0); err != nil || errno != 0 {
			t.Fatalf("%v, %v", err, errno)
		}
	}
}
