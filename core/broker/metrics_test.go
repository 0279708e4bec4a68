package broker

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/intercede/intercede/core/container"
	"github.com/intercede/intercede/core/internal/testcaller"
	"github.com/intercede/intercede/core/internal/testplugin"
	"github.com/intercede/intercede/core/metrics"
	"golang.org/x/sys/unix"
)

// counted is a bench whose broker counts calls.
type counted struct {
	*bench
	metrics *metrics.Metrics
}

func newCounted(t *testing.T, o options) *counted {
	t.Helper()
	b := newBench(t, o)
	b.Broker.Close()
	c := &counted{b, metrics.New("test")}
	var err error
	b.Broker, err = New(Config{Generation: b.newGeneration(o), Log: b.log.logger(), Calls: c.metrics.Calls()})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// lines are those of a metric.
func (c *counted) lines(t *testing.T, name string) (lines []string) {
	t.Helper()
	var text bytes.Buffer
	if err := c.metrics.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(text.String()) {
		if strings.HasPrefix(line, name) {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

// await waits until the calls that ended so are as many. A call is counted after its answer is sent.
func (c *counted) await(t *testing.T, calls int, plugin, syscall, outcome, reason string) {
	t.Helper()
	labels := fmt.Sprintf("outcome=%q,plugin=%q,reason=%q,syscall=%q", outcome, plugin, reason, syscall)
	want := fmt.Sprintf("intercede_calls_total{%s} %d", labels, calls)
	eventually(t, want, func() bool { return strings.Contains(strings.Join(c.lines(t, "intercede_calls_total"), "\n"), want) })
}

// TestCountCalls has calls end in different ways.
func TestCountCalls(t *testing.T) {
	t.Parallel()
	b := newCounted(t, options{plugins: []string{"trial", "trial2"}})
	c := b.attach(t)
	b.await(t, 0, "trial", "getppid", "return", "none")
	b.await(t, 0, "trial2", "getppid", "return", "none")
	for _, test := range []struct {
		op                      testplugin.Op
		plugin, outcome, reason string
	}{
		{testplugin.Return, "trial", "return", "none"},
		{testplugin.Errno, "trial", "errno", "none"},
		{testplugin.Continue, "trial", "continue", "none"},
		{testplugin.Explain, "trial2", "continue", "trial"}, // both give it: the last one counts
		{testplugin.Next, "none", "continue", codeNotWanted},
		{testplugin.ExplainOther, "trial", "errno", codeUndeclared},
		{testplugin.Error, "trial", "continue", codeFailed},
	} {
		ask(t, c, test.op, 1, 1)
		b.await(t, 1, test.plugin, "getppid", test.outcome, test.reason)
	}
	c.Call(t, unix.SYS_GETPPID)
	b.await(t, 1, "none", "getppid", "continue", codeNotTaken)
	want := `intercede_call_duration_seconds_count{plugin="trial"} 5`
	if lines := b.lines(t, "intercede_call_duration_seconds_count"); !slices.Contains(lines, want) {
		t.Errorf("%q lack %s", lines, want)
	}
}

// TestCountGivenUp has a call be answered by the watchdog: it counts once.
func TestCountGivenUp(t *testing.T) {
	t.Parallel()
	b := newCounted(t, options{plugins: []string{"trial_errno"}, deadline: watchInterval})
	file := testcaller.NewHangingFile(t)
	c, page := b.hangingPage(t, file)
	c.Call(t, unix.SYS_CHDIR, page)
	b.await(t, 1, "trial_errno", "chdir", "errno", codeHang)
	file.Answer()
	eventually(t, "the thread is back", func() bool { return b.Figures().InFlight == 0 })
	b.await(t, 1, "trial_errno", "chdir", "errno", codeHang)
	want := `intercede_call_duration_seconds_count{plugin="trial_errno"} 1`
	if lines := b.lines(t, "intercede_call_duration_seconds_count"); !slices.Contains(lines, want) {
		t.Errorf("%q lack %s", lines, want)
	}
}

// TestCountHostile has containers whose names, IDs and calls are what they like: nothing of that becomes a label.
func TestCountHostile(t *testing.T) {
	t.Parallel()
	b := newCounted(t, options{})
	b.attach(t)
	before := len(b.lines(t, "intercede_"))
	const containers, calls = 5, 40
	ops := []testplugin.Op{testplugin.Errno, testplugin.Explain, testplugin.ExplainOther, testplugin.Zero, testplugin.Error}
	for i := range containers {
		c := testcaller.Start(t, 0)
		claim := container.Claim{ID: fmt.Sprintf("hostile-%d\"} 1\n", i), Name: "hostile", Runtime: "test", PID: c.PID}
		numbers := []uint32{unix.SYS_GETPPID, unix.SYS_CHDIR}
		for nr := range uint32(calls) {
			numbers = append(numbers, 1000+nr) // that the kernel does not have
		}
		if err := b.Attach(context.Background(), c.Listener(t, numbers...), claim); err != nil {
			t.Fatal(err)
		}
		for nr := range uint64(calls) {
			c.Call(t, uintptr(1000+nr))
			ask(t, c, ops[int(nr)%len(ops)], nr+1, nr)
		}
	}
	b.await(t, containers*calls, "none", "other", "continue", codeNotTaken)
	lines := b.lines(t, "intercede_")
	if text := strings.Join(lines, "\n"); strings.Contains(text, "hostile") || strings.Contains(text, "#") {
		t.Errorf("a label has what the container chose: %s", text)
	}
	// Those that 200 calls of 40 numbers have added: of the label "other", and of a handful of reasons.
	if most := before + 20; len(lines) > most {
		t.Errorf("%d series, want %d at most:\n%s", len(lines), most, strings.Join(lines, "\n"))
	}
}

// TestMetricsLookAtContainers has calls in flight, and others that wait for the container's limit.
func TestMetricsLookAtContainers(t *testing.T) {
	t.Parallel()
	// A machine that takes longer than a second for each call is not throttled at this rate.
	b := newCounted(t, options{limits: Limits{MaxInflight: 1, Rate: 1, Burst: 1}})
	c := b.attach(t)
	begin(c, testplugin.Hold, 1)
	held := b.gate.next(t)
	eventually(t, "one call is in flight, and its listener waits", func() bool {
		return b.Figures() == Figures{Containers: 1, InFlight: 1, Full: 1}
	})
	held.open()
	eventually(t, "a call is throttled", func() bool {
		ask(t, c, testplugin.Return, 1)
		lines := b.lines(t, "intercede_calls_throttled_total")
		return len(lines) == 1 && !strings.HasSuffix(lines[0], " 0")
	})
}
