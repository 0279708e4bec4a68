package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/intercede/intercede/sdk/sdktest"
	"golang.org/x/sys/unix"
)

// TestExecutedMeanwhile has a caller without privileges be another program, with all of them, at any moment of its
// mknod(2): no node may come of it. Once more it has the plugin stopped at any moment, for longer than that takes.
func TestExecutedMeanwhile(t *testing.T) {
	race := sdktest.Race(t)
	for name, stops := range map[string]bool{"undisturbed": false, "with a plugin that is stopped": true} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, "[plugins.mknod]\n")
			box := filepath.Join(s.dir, "race")
			mustRun(t, exec.Command("install", "-m", "755", race, box))
			if err := os.Chmod(s.dir, 0o755); err != nil {
				t.Fatal(err)
			}
			cmd := program("run", "--config", s.config(), "--", box, "2000", "100000")
			var stdout, stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan struct{})
			stopped := make(chan int)
			go func() { stopped <- stopAndGo(cmd.Process.Pid, stops, ended) }()
			err := cmd.Wait()
			close(ended)
			times := <-stopped
			var made, executed, refused int
			if n, _ := fmt.Sscan(stdout.String(), &made, &executed, &refused); n != 3 || err != nil {
				t.Fatalf("%v, %q: %s", err, stdout.String(), stderr.String())
			}
			t.Logf("%d nodes made; %d executed meanwhile, %d refused before; stopped %d times", made, executed, refused, times)
			if made != 0 || executed == 0 || stops && times == 0 {
				t.Errorf("%d nodes made, %d executed meanwhile, stopped %d times", made, executed, times)
			}
		})
	}
}

// stopAndGo stops the plugin of a process again and again, until that has ended, and gives how often it did.
func stopAndGo(pid int, wanted bool, ended <-chan struct{}) (times int) {
	plugin := -1
	defer func() { unix.Close(plugin) }()
	for {
		select {
		case <-ended:
			return times
		case <-time.After(300 * time.Microsecond):
		}
		if !wanted {
			continue
		}
		if plugin < 0 {
			plugin = openPlugin(pid)
			continue
		}
		if unix.PidfdSendSignal(plugin, unix.SIGSTOP, nil, 0) != nil { // it ran for its manifest alone
			unix.Close(plugin)
			plugin = -1
			continue
		}
		times++
		time.Sleep(500 * time.Microsecond)
		unix.PidfdSendSignal(plugin, unix.SIGCONT, nil, 0)
	}
}

// openPlugin opens (a pidfd) the plugin that is a child of the process; -1: there is none yet.
func openPlugin(pid int) int {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, list := range lists {
		text, _ := os.ReadFile(list)
		for _, field := range strings.Fields(string(text)) {
			child, _ := strconv.Atoi(field)
			fd, err := unix.PidfdOpen(child, 0)
			if err != nil {
				continue
			}
			if name, _ := os.ReadFile("/proc/" + field + "/comm"); strings.HasPrefix(string(name), "intercede-plugi") {
				return fd
			}
			unix.Close(fd)
		}
	}
	return -1
}
