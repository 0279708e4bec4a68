package bench

import (
	"io"
	"os"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/intercede/intercede/cmd/intercede-bench/caller"
	"github.com/intercede/intercede/core/audit"
	"github.com/intercede/intercede/core/daemon"
	"github.com/intercede/intercede/core/policy"
	"github.com/intercede/intercede/core/policy/config"
	"golang.org/x/sys/unix"
)

func TestReport(t *testing.T) {
	b := &bench{options: Options{Calls: 3}}
	b.add(&row{key: "bare", name: "bare", rounds: []caller.Durations{{4000, 5000}, {6000}}})
	broker := &row{key: "noop", name: "broker", rounds: []caller.Durations{{1000, 20000, 30000}}}
	broker.share.add(audit.Record{Duration: 4, InPlugin: 3})
	b.add(broker)
	b.leaveOut("plugin x", "it is not there")
	report, err := b.report()
	if err != nil {
		t.Fatal(err)
	}
	want := []Row{
		{Key: "bare", Name: "bare", P50: 5, P90: 6, P99: 6, Ratio: 1, rounds: []float64{4000, 6000}},
		{Key: "noop", Name: "broker", P50: 20, P90: 30, P99: 30, Ratio: 4, PluginShare: 0.75, rounds: []float64{20000}},
	}
	if !reflect.DeepEqual(report.Rows, want) {
		t.Errorf("got %+v, want %+v", report.Rows, want)
	}
	report.Rows[1].Rare = 300
	report.Blocked = &Blocked{SlowCalls: 64, Alone: 20, Same: 30, Other: 25}
	report.Throughput = []Throughput{{Containers: 8, Callers: 2, PerSecond: 12345.6}}
	report.Scale = &Scale{
		Listeners: 1000, Attach: 500, IdleSeconds: 3,
		Calls:     []ScaledCall{{Name: "broker", Alone: 20, Among: 22, Ratio: 1.1}},
		Processes: []Process{{Name: "broker", RSS: 30 << 20, WakeUps: 4, CPU: 80}},
	}
	golden(t, "testdata/report.txt", report.WriteTable)
	golden(t, "testdata/benchmarks.txt", report.WriteBenchmarks)
}

// golden compares what is written with a file, in which the machine's own facts are replaced.
func golden(t *testing.T, file string, write func(io.Writer) error) {
	t.Helper()
	var got strings.Builder
	if err := write(&got); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var uname unix.Utsname
	if err := unix.Uname(&uname); err != nil {
		t.Fatal(err)
	}
	release := unix.ByteSliceToString(uname.Release[:])
	want := strings.NewReplacer("KERNEL", release, "CPUS", strconv.Itoa(runtime.NumCPU()), "ARCH", runtime.GOARCH).Replace(string(text))
	if got.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", got.String(), want)
	}
}

func TestUnlimitedLeavesTheSetup(t *testing.T) {
	setup := &daemon.Setup{Policy: &policy.Policy{Broker: config.Broker{Rate: 7, MaxInflight: 3}}}
	free := unlimited(setup)
	if free.Policy.Broker.Rate != 0 || free.Policy.Broker.MaxInflight != 3 || setup.Policy.Broker.Rate != 7 {
		t.Errorf("got %+v of %+v", free.Policy.Broker, setup.Policy.Broker)
	}
}
