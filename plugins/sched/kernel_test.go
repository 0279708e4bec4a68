package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/intercede/intercede/sdk/sdktest"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { sdktest.Main(m, handler{}) }

// pair compares the plugin with real root.
type pair struct{ *sdktest.Pair }

func newPair(t *testing.T, settings map[string]any) pair {
	t.Helper()
	return pair{sdktest.NewPair(t, handler{}, sdktest.WithSettings(settings))}
}

// scripted is a script, the errors that real root gets from its calls ("ok ESRCH"), and how those that are notified are
// answered ("value errno").
type scripted struct {
	script []string
	want   string
	kinds  string
}

// run compares the scripts.
func (p pair) run(t *testing.T, tests map[string]scripted) {
	t.Helper()
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Helper()
			p.Compare(t, test.want, test.kinds, test.script...)
		})
	}
}

// same runs a script in both containers and compares what the callers print.
func (p pair) same(t *testing.T, script ...string) {
	t.Helper()
	if got, want := p.Container.Call(t, script...), p.Host.Call(t, script...); got.Stdout != want.Stdout {
		t.Errorf("the caller gets\n%sreal root gets\n%s", got.Stdout, want.Stdout)
	}
}

// refused runs a script in a container: the calls must get these errors, as they do without the plugin.
func refused(t *testing.T, settings map[string]any, want string, script ...string) {
	t.Helper()
	got := sdktest.NewContainer(t, handler{}, sdktest.WithSettings(settings)).Call(t, script...)
	without := sdktest.NewContainer(t, nil).Call(t, script...)
	if outcome := sdktest.Errnos(got.Lines(t)); outcome != want {
		t.Errorf("the caller gets %s, want %s", outcome, want)
	}
	if got.Stdout != without.Stdout {
		t.Errorf("the caller gets\n%swithout the plugin\n%s", got.Stdout, without.Stdout)
	}
	for _, c := range got.Calls {
		if c.Outcome.Kind != sdktest.Continue {
			t.Errorf("a call was answered by %v", c.Outcome)
		}
	}
}

// Scripts of calls on a thread; 0 is the calling one.
func scheduler(tid int, policy string, priority int) string {
	return fmt.Sprintf("sys sched_setscheduler %d %s struct:4=%d", tid, policy, priority)
}

func param(tid, priority int) string {
	return fmt.Sprintf("sys sched_setparam %d struct:4=%d", tid, priority)
}

// attr is sched_setattr(2) with a struct sched_attr of the first version.
func attr(tid int, policy string, flags uint64, nice, priority int) string {
	return fmt.Sprintf("sys sched_setattr %d struct:4=48,4=%s,8=%#x,4=%d,4=%d,8=0,8=0,8=0 0", tid, policy, flags, nice, priority)
}

// show prints a thread's policy, priority and nice value.
func show(tid int) []string {
	return []string{fmt.Sprintf("sys sched_getscheduler %d", tid), fmt.Sprintf("sys sched_getparam %d buf:4", tid), fmt.Sprintf("sys getpriority 0 %d", tid)}
}

func shown(script ...string) []string { return append(script, show(0)...) }

const (
	okShown    = "ok ok ok ok"
	deadlines  = "8=1000000,8=10000000,8=10000000"
	capSysNice = "dropcap 23"
)

func TestPolicies(t *testing.T) {
	tests := map[string]scripted{}
	for policy, priority := range map[string]int{"SCHED_OTHER": 0, "SCHED_BATCH": 0, "SCHED_IDLE": 0, "SCHED_FIFO": 99, "SCHED_RR": 1} {
		for _, reset := range []string{"", "|SCHED_RESET_ON_FORK"} {
			tests["scheduler-"+policy+reset] = scripted{shown(scheduler(0, policy+reset, priority)), okShown, "value"}
		}
		tests["attr-"+policy] = scripted{shown(attr(0, policy, 0, 0, priority)), okShown, "value"}
		tests["attr-"+policy+"-reset"] = scripted{shown(attr(0, policy, unix.SCHED_FLAG_RESET_ON_FORK, 0, priority)), okShown, "value"}
		tests["param-"+policy] = scripted{shown(scheduler(0, policy, priority), param(0, priority)), "ok " + okShown, "value value"}
	}
	newPair(t, nil).run(t, tests)
}

// TestTransitions go from one policy to another: some need the privilege, some none.
func TestTransitions(t *testing.T) {
	const reset = "SCHED_RESET_ON_FORK"
	newPair(t, nil).run(t, map[string]scripted{
		"raise":             {shown(scheduler(0, "SCHED_FIFO", 5), param(0, 50), param(0, 99)), "ok ok " + okShown, "value value value"},
		"lower":             {shown(scheduler(0, "SCHED_FIFO", 50), param(0, 5)), "ok " + okShown, "value value"},
		"fifo-to-rr":        {shown(scheduler(0, "SCHED_FIFO", 50), scheduler(0, "SCHED_RR", 60)), "ok " + okShown, "value value"},
		"rt-to-other":       {shown(scheduler(0, "SCHED_FIFO", 50), scheduler(0, "SCHED_OTHER", 0)), "ok " + okShown, "value value"},
		"idle-to-other":     {shown(scheduler(0, "SCHED_IDLE", 0), scheduler(0, "SCHED_OTHER", 0)), "ok " + okShown, "value value"},
		"idle-to-batch":     {shown(attr(0, "SCHED_IDLE", 0, 0, 0), attr(0, "SCHED_BATCH", 0, 0, 0)), "ok " + okShown, "value value"},
		"reset-cleared":     {shown(scheduler(0, "SCHED_FIFO|"+reset, 9), scheduler(0, "SCHED_OTHER", 0)), "ok " + okShown, "value value"},
		"reset-kept":        {shown(scheduler(0, "SCHED_FIFO|"+reset, 9), param(0, 11)), "ok " + okShown, "value value"},
		"keep-policy":       {shown(scheduler(0, "SCHED_RR|"+reset, 9), attr(0, "SCHED_OTHER", unix.SCHED_FLAG_KEEP_POLICY, 0, 12)), "ok " + okShown, "value value"},
		"keep-policy-reset": {shown(scheduler(0, "SCHED_RR", 9), attr(0, "SCHED_OTHER", unix.SCHED_FLAG_KEEP_POLICY|unix.SCHED_FLAG_RESET_ON_FORK, 0, 12)), "ok " + okShown, "value value"},
		"keep-policy-other": {shown(attr(0, "SCHED_FIFO", unix.SCHED_FLAG_KEEP_POLICY, 3, 0)), okShown, "value"},
		"keep-params":       {shown(scheduler(0, "SCHED_RR", 9), attr(0, "SCHED_RR", unix.SCHED_FLAG_KEEP_PARAMS, 0, 44)), "ok " + okShown, "value continue"},
		"keep-all":          {shown(scheduler(0, "SCHED_RR", 9), attr(0, "SCHED_OTHER", unix.SCHED_FLAG_KEEP_ALL, 0, 44)), "ok " + okShown, "value continue"},
		"nice-kept":         {shown("do setpriority 0 0 7", scheduler(0, "SCHED_FIFO", 9), scheduler(0, "SCHED_OTHER", 0)), "ok " + okShown, "value value"},
		"nice-higher":       {shown(attr(0, "SCHED_BATCH", 0, 11, 0)), okShown, "value"},
		"nice-of-rt":        {shown(attr(0, "SCHED_FIFO", 0, -20, 1)), okShown, "value"},
		"nice-of-idle":      {shown(attr(0, "SCHED_IDLE", 0, -20, 0)), okShown, "value"},
		"nice-clamped":      {shown(attr(0, "SCHED_OTHER", 0, 77, 0)), okShown, "value"},
		"runtime-of-fifo":   {shown("sys sched_setattr 0 struct:4=48,4=SCHED_FIFO,8=6,4=0,4=3," + deadlines + " 0"), okShown, "value"},
		"forked":            {shown(scheduler(0, "SCHED_FIFO|"+reset, 9), "fork"), okShown, "value"},
		"forked-kept":       {shown(scheduler(0, "SCHED_FIFO", 9), "fork"), okShown, "value"},
	})
}

func TestDeadline(t *testing.T) {
	deadline := func(flags uint64) string {
		return fmt.Sprintf("sys sched_setattr 0 struct:4=48,4=SCHED_DEADLINE,8=%#x,4=0,4=0,%s 0", flags, deadlines)
	}
	newPair(t, map[string]any{"policies": []string{"deadline", "other"}}).run(t, map[string]scripted{
		"plain":     {[]string{deadline(0), "sys sched_getattr 0 buf:48 48 0"}, "ok ok", "value"},
		"reclaim":   {[]string{deadline(unix.SCHED_FLAG_RECLAIM), "sys sched_getattr 0 buf:48 48 0"}, "ok ok", "value"},
		"overrun":   {[]string{deadline(unix.SCHED_FLAG_DL_OVERRUN), "sys sched_getattr 0 buf:48 48 0"}, "ok ok", "value"},
		"and-back":  {shown(deadline(0), scheduler(0, "SCHED_OTHER", 0)), "ok " + okShown, "value value"},
		"setparam":  {[]string{deadline(0), param(0, 0)}, "ok EINVAL", "value errno"},
		"scheduler": {[]string{scheduler(0, "SCHED_DEADLINE", 0)}, "EINVAL", ""},
		"nonsense":  {[]string{"sys sched_setattr 0 struct:4=48,4=SCHED_DEADLINE,8=0,4=0,4=0,8=10000000,8=1000000,8=10000000 0"}, "EINVAL", "errno"},
	})
	refused(t, nil, "EPERM ok", deadline(0), "sys sched_getscheduler 0")
	// What the kernel says of a thread that may not use all processors depends on how many there are.
	newPair(t, map[string]any{"policies": []string{"deadline"}}).same(t,
		fmt.Sprintf("do %d 0 8 hex:0100000000000000", unix.SYS_SCHED_SETAFFINITY), deadline(0), "sys sched_getscheduler 0")
}

// TestErrors are those of calls that are wrong in themselves.
func TestErrors(t *testing.T) {
	const fifo = "4=SCHED_FIFO,8=0,4=0,4=9,8=0,8=0,8=0"
	page := strings.Repeat("00", 4096-52)
	head := "00100000" + "01000000" + "0000000000000000" + "00000000" + "09000000"
	newPair(t, map[string]any{"max_priority": 50}).run(t, map[string]scripted{
		"priority-0":          {[]string{scheduler(0, "SCHED_FIFO", 0), attr(0, "SCHED_RR", 0, 0, 0)}, "EINVAL EINVAL", "errno errno"},
		"priority-100":        {[]string{scheduler(0, "SCHED_FIFO", 100), attr(0, "SCHED_RR", 0, 0, 100)}, "EINVAL EINVAL", "continue continue"},
		"priority-negative":   {[]string{scheduler(0, "SCHED_FIFO", -1), attr(0, "SCHED_RR", 0, 0, -1)}, "EINVAL EINVAL", "continue continue"},
		"priority-of-other":   {[]string{scheduler(0, "SCHED_OTHER", 1), attr(0, "SCHED_BATCH", 0, 0, 1), param(0, 1)}, "EINVAL EINVAL EINVAL", "errno errno errno"},
		"policy":              {[]string{scheduler(0, "4", 0), scheduler(0, "8", 0), scheduler(0, "-1", 0), scheduler(0, "0x80000001", 1), attr(0, "4", 0, 0, 0), attr(0, "-1", 0, 0, 0), attr(0, "SCHED_FIFO|SCHED_RESET_ON_FORK", 0, 0, 1)}, "EINVAL EINVAL EINVAL EINVAL EINVAL EINVAL EINVAL", "continue continue continue"},
		"registers":           {shown("sys sched_setscheduler 0x7ead000000000000 0x7ead000000000000|SCHED_FIFO struct:4=9"), okShown, "value"},
		"no-thread":           {[]string{scheduler(4000000, "SCHED_FIFO", 9), param(4000000, 9), attr(4000000, "SCHED_FIFO", 0, 0, 9)}, "ESRCH ESRCH ESRCH", "continue continue continue"},
		"negative-thread":     {[]string{scheduler(-1, "SCHED_FIFO", 9), param(-1, 9), attr(-1, "SCHED_FIFO", 0, 0, 9)}, "EINVAL EINVAL EINVAL", "continue continue continue"},
		"null":                {[]string{"sys sched_setscheduler 0 SCHED_FIFO null", "sys sched_setparam 0 null", "sys sched_setattr 0 null 0"}, "EINVAL EINVAL EINVAL", "continue continue continue"},
		"bad":                 {[]string{"sys sched_setscheduler 0 SCHED_FIFO bad", "sys sched_setparam 0 bad", "sys sched_setattr 0 bad 0"}, "EFAULT EFAULT EFAULT", "continue continue continue"},
		"protnone":            {[]string{"sys sched_setscheduler 0 SCHED_FIFO protnone", "sys sched_setparam 0 protnone", "sys sched_setattr 0 protnone 0"}, "EFAULT EFAULT EFAULT", "continue continue continue"},
		"edge":                {[]string{"sys sched_setscheduler 0 SCHED_FIFO edge:abc", "sys sched_setattr 0 edge:0000000000000000000000000000000 0"}, "EFAULT E2BIG", "continue continue"},
		"flags":               {[]string{"sys sched_setattr 0 struct:4=48," + fifo + " 1", "sys sched_setattr 0 struct:4=48," + fifo + " 0x7ead00000000"}, "EINVAL ok", "value"},
		"size-0":              {shown("sys sched_setattr 0 struct:4=0," + fifo + " 0"), okShown, "value"},
		"size-47":             {[]string{"sys sched_setattr 0 struct:4=47," + fifo + " 0"}, "E2BIG", "continue"},
		"size-52":             {shown("sys sched_setattr 0 struct:4=52," + fifo + ",4=0 0"), okShown, "value"},
		"size-56":             {shown("sys sched_setattr 0 struct:4=56," + fifo + ",8=0 0"), okShown, "value"},
		"size-64":             {shown("sys sched_setattr 0 struct:4=64," + fifo + ",8=0,8=0 0"), okShown, "value"},
		"size-64-unknown":     {[]string{"sys sched_setattr 0 struct:4=64," + fifo + ",8=0,8=0x100000000000000 0"}, "E2BIG", "continue"},
		"size-page":           {shown("sys sched_setattr 0 hex:" + head + page + strings.Repeat("00", 28) + " 0"), okShown, "value"},
		"size-more":           {[]string{"sys sched_setattr 0 struct:4=4097," + fifo + " 0"}, "E2BIG", "continue"},
		"size-beyond":         {[]string{"sys sched_setattr 0 struct:4=0xffffffff," + fifo + " 0"}, "E2BIG", "continue"},
		"unknown-flag":        {[]string{attr(0, "SCHED_FIFO", 0x80, 0, 9)}, "EINVAL", "continue"},
		"clamp-first-version": {[]string{attr(0, "SCHED_FIFO", unix.SCHED_FLAG_UTIL_CLAMP, 0, 9)}, "EINVAL", "continue"},
	})
}

// TestClamp has the answer of this kernel, which may lack utilization clamps.
func TestClamp(t *testing.T) {
	newPair(t, nil).same(t, shown("sys sched_setattr 0 struct:4=56,4=SCHED_FIFO,8=0x60,4=0,4=9,8=0,8=0,8=0,4=100,4=200 0")...)
}

// TestOutsideLimits gets what it gets without the plugin.
func TestOutsideLimits(t *testing.T) {
	for name, test := range map[string]struct {
		settings map[string]any
		want     string
		script   []string
	}{
		"priority":         {map[string]any{"max_priority": 50}, "EPERM EPERM EPERM EPERM ok ok ok", shown(scheduler(0, "SCHED_FIFO", 51), scheduler(0, "SCHED_RR|SCHED_RESET_ON_FORK", 51), attr(0, "SCHED_FIFO", 0, 0, 51), attr(0, "SCHED_RR", 0, 0, 99))},
		"policy":           {map[string]any{"policies": []string{"rr"}}, "EPERM EPERM EPERM ok ok ok", shown(scheduler(0, "SCHED_FIFO", 1), scheduler(0, "SCHED_FIFO|SCHED_RESET_ON_FORK", 1), attr(0, "SCHED_FIFO", 0, 0, 1))},
		"no-policy":        {map[string]any{"policies": []string{}}, "EPERM ok ok ok EPERM ok ok ok", shown(scheduler(0, "SCHED_RR", 1), scheduler(0, "SCHED_BATCH", 0), param(0, 0), scheduler(0, "SCHED_IDLE", 0), scheduler(0, "SCHED_OTHER", 0))},
		"nice":             {nil, "EPERM EPERM EACCES ok ok ok", shown(attr(0, "SCHED_OTHER", 0, -1, 0), attr(0, "SCHED_BATCH", 0, -20, 0), "sys setpriority 0 0 -1")},
		"nice-keep-policy": {nil, "EPERM ok ok ok", shown(attr(0, "SCHED_FIFO", unix.SCHED_FLAG_KEEP_POLICY, -1, 0))},
	} {
		t.Run(name, func(t *testing.T) { refused(t, test.settings, test.want, test.script...) })
	}
}

// TestWithinLimits is all that stricter limits leave.
func TestWithinLimits(t *testing.T) {
	p := newPair(t, map[string]any{"policies": []string{"rr"}, "max_priority": 50})
	p.run(t, map[string]scripted{
		"listed":       {shown(scheduler(0, "SCHED_RR", 50), param(0, 49)), "ok " + okShown, "value value"},
		"needs-none":   {shown(scheduler(0, "SCHED_BATCH", 0), param(0, 0), attr(0, "SCHED_OTHER", 0, 0, 0)), "ok ok " + okShown, "continue continue continue"},
		"back":         {shown(scheduler(0, "SCHED_RR", 50), scheduler(0, "SCHED_OTHER", 0)), "ok " + okShown, "value continue"},
		"listed-reset": {shown(scheduler(0, "SCHED_RR|SCHED_RESET_ON_FORK", 50)), okShown, "value"},
	})
	got := p.Container.Call(t, scheduler(0, "SCHED_RR", 10), param(0, 51), "sys sched_getparam 0 buf:4").Lines(t)
	if sdktest.Errnos(got) != "ok EPERM ok" || got[2].Bufs[0][0] != 10 {
		t.Errorf("beyond max_priority by sched_setparam: %+v", got)
	}
}

func TestUnprivileged(t *testing.T) {
	for name, script := range map[string][]string{
		"no-capability":       {capSysNice},
		"user":                {"setgid 7", "setuid 8"},
		"nested-root":         {"unshare user"},
		"thread-unprivileged": {"thread", capSysNice},
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, map[string]any{"min_nice": -20, "policies": []string{"other", "fifo", "rr", "deadline", "idle"}}, "EPERM EPERM EPERM EACCES ok EPERM ok ok ok",
				append(script, shown(scheduler(0, "SCHED_FIFO", 1), attr(0, "SCHED_RR", 0, 0, 1), attr(0, "SCHED_OTHER", 0, -1, 0), "sys setpriority 0 0 -1",
					scheduler(0, "SCHED_IDLE", 0), scheduler(0, "SCHED_OTHER", 0))...)...)
		})
	}
}

// TestKeptCapability is a user who has CAP_SYS_NICE in the container.
func TestKeptCapability(t *testing.T) {
	newPair(t, nil).run(t, map[string]scripted{
		"user": {shown("do prctl PR_SET_SECUREBITS 4", "setgid 7", "setuid 8", scheduler(0, "SCHED_FIFO", 3)), okShown, "value"},
	})
}

func TestNice(t *testing.T) {
	newPair(t, map[string]any{"min_nice": -10}).run(t, map[string]scripted{
		"lent":           {shown("sys setpriority 0 0 -10"), okShown, "value"},
		"steps":          {shown("sys setpriority 0 0 -3", "sys setpriority 0 0 5", "sys setpriority 0 0 -4"), "ok ok " + okShown, "value value value"},
		"higher":         {shown("sys setpriority 0 0 200"), okShown, "value"},
		"registers":      {shown("sys setpriority 0x7ead00000000 0x7ead00000000 0x7eadfffffff6"), okShown, "value"},
		"attr":           {shown(attr(0, "SCHED_OTHER", 0, -10, 0)), okShown, "value"},
		"attr-keep":      {shown(attr(0, "SCHED_FIFO", unix.SCHED_FLAG_KEEP_POLICY, -10, 0)), okShown, "value"},
		"attr-batch":     {shown(attr(0, "SCHED_BATCH", 0, -2, 0)), okShown, "value"},
		"no-thread":      {[]string{"sys setpriority 0 4000000 -1", "sys setpriority 0 -1 -1"}, "ESRCH ESRCH", "continue continue"},
		"group-and-user": {[]string{"sys setpriority 1 4000000 -1", "sys setpriority 2 777 -1", "sys setpriority 3 0 -1"}, "ESRCH ESRCH EINVAL", ""},
	})
	refused(t, map[string]any{"min_nice": -10}, "EACCES EPERM ok ok ok",
		shown("sys setpriority 0 0 -11", attr(0, "SCHED_OTHER", 0, -11, 0))...)
}

// TestSwitchedOff looks whether setpriority leaves the kernel without min_nice.
func TestSwitchedOff(t *testing.T) {
	for minNice, want := range map[int]int{0: 0, 5: 1} {
		c := sdktest.NewContainer(t, handler{}, sdktest.WithSettings(map[string]any{"min_nice": minNice}))
		if calls := c.Call(t, "sys setpriority 0 0 1").Calls; len(calls) != want {
			t.Errorf("min_nice = %d: %d calls are notified, want %d", minNice, len(calls), want)
		}
	}
}

// Test32Bit has callers of the machine's 32-bit architecture.
func Test32Bit(t *testing.T) {
	p := newPair(t, map[string]any{"min_nice": -10})
	p.Call = (*sdktest.Container).Call32
	p.run(t, map[string]scripted{
		"scheduler": {shown(scheduler(0, "SCHED_FIFO|SCHED_RESET_ON_FORK", 9), param(0, 10)), "ok " + okShown, "value value"},
		"attr":      {shown(attr(0, "SCHED_RR", 1, 0, 9)), okShown, "value"},
		"size-64":   {shown("sys sched_setattr 0 struct:4=64,4=SCHED_FIFO,8=0,4=0,4=9,8=0,8=0,8=0,8=0,8=0 0"), okShown, "value"},
		"errors":    {[]string{"sys sched_setattr 0 struct:4=47,8=0 0", "sys sched_setscheduler 0 SCHED_FIFO bad", param(4000000, 1), "sys sched_setparam 0 null"}, "E2BIG EFAULT ESRCH EINVAL", "continue continue continue continue"},
		"nice":      {shown("sys setpriority 0 0 -10"), okShown, "value"},
		"own-id":    {append(numbered(5000, "fork"), shown(scheduler(5000, "SCHED_FIFO", 9))...), okShown, "value"},
	})
}
