package bench

import (
	"strings"
	"testing"

	"github.com/intercede/intercede/core/bench/caller"
	"github.com/intercede/intercede/core/daemon"
	"github.com/intercede/intercede/core/policy"
)

func TestReport(t *testing.T) {
	b := &bench{}
	b.add(&row{name: "bare", durations: caller.Durations{4000, 5000, 6000}})
	b.add(&row{name: "broker", durations: caller.Durations{1000, 20000, 30000}})
	b.leaveOut("plugin x", "it is not there")
	report, err := b.report(3)
	if err != nil {
		t.Fatal(err)
	}
	if want := (Row{Name: "bare", P50: 5, P90: 6, P99: 6, Ratio: 1}); report.Rows[0] != want {
		t.Errorf("got %+v, want %+v", report.Rows[0], want)
	}
	if want := (Row{Name: "broker", P50: 20, P90: 30, P99: 30, Ratio: 4}); report.Rows[1] != want {
		t.Errorf("got %+v, want %+v", report.Rows[1], want)
	}
	var table strings.Builder
	if err := report.WriteTable(&table); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"3 calls each", "\nbare         5.0 ", "\nbroker      20.0 ", "Left out: plugin x: it is not there."} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("%q is not in:\n%s", want, table.String())
		}
	}
}

func TestUnlimitedLeavesTheSetup(t *testing.T) {
	setup := &daemon.Setup{Policy: &policy.Policy{Broker: policy.Broker{Rate: 7, MaxInflight: 3}}}
	free := unlimited(setup)
	if free.Policy.Broker.Rate != 0 || free.Policy.Broker.MaxInflight != 3 || setup.Policy.Broker.Rate != 7 {
		t.Errorf("got %+v of %+v", free.Policy.Broker, setup.Policy.Broker)
	}
}
