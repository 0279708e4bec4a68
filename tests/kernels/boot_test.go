package kernels

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// timeToReport is what is left of the test's time when a machine is ended.
const timeToReport = 30 * time.Second

// boot runs the machine until it powers itself off, or go test's -timeout is near. Each of its steps is a test. What it
// writes to its disks is lost.
func (s system) boot(t *testing.T, payload string) {
	t.Helper()
	ctx := t.Context()
	if deadline, limited := t.Deadline(); limited {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline.Add(-timeToReport))
		defer cancel()
	}
	dir := t.TempDir()
	console, results := filepath.Join(dir, "console"), filepath.Join(dir, "results")
	drive := func(file string) string { return "file=" + file + ",format=raw,if=virtio,snapshot=on,cache=unsafe" }
	// An emulated processor: /dev/kvm may be there and not work. While it is busy, the machine's clocks count its
	// instructions, 2^shift ns each. So what the machine does takes the same time by its own clocks on a loaded host,
	// and the limits of programs and tests hold. With more than one processor, qemu 7.2 takes minutes
	// to start the second.
	arguments := slices.Concat(s.machine.qemu[1:], []string{
		"-accel", "tcg", "-icount", "shift=0", "-smp", "1", "-m", "1536",
		"-nographic", "-no-reboot", "-nic", "none", "-monitor", "none", "-serial", "file:" + console,
		"-kernel", s.kernel, "-initrd", s.initrd,
		"-append", "root=/dev/vda rw console=" + s.machine.console + " panic=-1 quiet systemd.show_status=0",
		"-drive", drive(s.disk), "-drive", drive(payload), "-device", "virtio-rng-pci",
		"-device", "virtio-serial", "-chardev", "file,id=results,path=" + results,
		"-device", "virtserialport,chardev=results,name=results"})
	machine := exec.CommandContext(ctx, s.machine.qemu[0], arguments...)
	done := make(chan error, 1)
	go func() {
		output, err := machine.CombinedOutput()
		if len(output) > 0 {
			t.Logf("qemu: %s", output)
		}
		done <- err
	}()
	failure := s.follow(t, results, done)
	text, err := os.ReadFile(results)
	if err != nil {
		t.Error(err)
	}
	steps, finished := parseSteps(string(text))
	for _, step := range steps {
		t.Run(step.name, func(t *testing.T) {
			if t.Log(step.output); step.status != 0 {
				t.Errorf("status %d after %d s", step.status, step.seconds)
			}
		})
	}
	if !finished || failure != nil {
		last, _ := os.ReadFile(console)
		t.Errorf("the machine did not come to the end of its steps (%v): %v\n%s", ctx.Err(), failure, last[max(0, len(last)-4096):])
	}
}

// follow says which steps have ended while the machine runs, and returns what ended it.
func (s system) follow(t *testing.T, results string, done <-chan error) error {
	told := 0
	for {
		var failure error
		ended := false
		select {
		case failure = <-done:
			ended = true
		case <-time.After(5 * time.Second):
		}
		text, _ := os.ReadFile(results)
		steps, _ := parseSteps(string(text))
		for _, step := range steps[told:] {
			os.Stdout.WriteString(step.line())
		}
		told = len(steps)
		if ended {
			return failure
		}
	}
}
