package event

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/intercede/intercede/core/audit"
	"github.com/intercede/intercede/internal/notify"
	"github.com/intercede/intercede/internal/wire"
	"golang.org/x/sys/unix"
)

const page = "../../docs/audit.md"

// types are how the page names what fields have.
var types = map[reflect.Kind]string{
	reflect.String: "string", reflect.Int: "number", reflect.Int32: "number", reflect.Int64: "number", reflect.Uint32: "number",
	reflect.Uint64: "number", reflect.Float64: "number", reflect.Struct: "string",
}

// TestSchema compares the page's table with the code: the fields, their order and types, and the version.
func TestSchema(t *testing.T) {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	var documented []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| (\\w+) \\| .+ \\|$").FindAllSubmatch(text, -1) {
		documented = append(documented, fmt.Sprintf("%s %s", row[1], row[2]))
	}
	var coded []string
	event := reflect.TypeFor[Event]()
	for i := range event.NumField() {
		field := event.Field(i)
		kind := field.Type
		if kind.Kind() == reflect.Pointer {
			kind = kind.Elem()
		}
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		coded = append(coded, name+" "+types[kind.Kind()])
	}
	if !slices.Equal(documented, coded) {
		t.Errorf("the page has %q, the code %q", documented, coded)
	}
	if want := fmt.Sprintf("`schema` is the version, %d.", Schema); !bytes.Contains(text, []byte(want)) {
		t.Errorf("the page does not say %q", want)
	}
	for _, kind := range []audit.Kind{audit.Return, audit.Errno, audit.Continue, audit.AddFD, audit.Gone, audit.Again} {
		if !bytes.Contains(text, []byte(kind)) {
			t.Errorf("the page has no outcome %s", kind)
		}
	}
	_, example, _ := strings.Cut(string(text), "```json\n")
	example, _, _ = strings.Cut(example, "```")
	decoder := json.NewDecoder(strings.NewReader(example))
	decoder.DisallowUnknownFields()
	var e Event
	if err := decoder.Decode(&e); err != nil || e.Schema != Schema {
		t.Errorf("the page's example: %v", err)
	}
}

// record is of a call whose container and caller have chosen what they may.
func record(o audit.Outcome) *audit.Record {
	return &audit.Record{
		Container: &audit.Container{
			ID: "a\nb", Name: strings.Repeat("n", 1000), Runtime: "oci", Generation: 3,
			UIDs: []*wire.IDMapping{{Inside: 0, Outside: 100000, Length: 65536}},
		},
		Caller:  &audit.Caller{Comm: "\x1b[2J", PID: 70, OwnPID: 7, OwnTID: 8, UID: 100005},
		Syscall: "mknod", Notification: &notify.Notification{ID: 1, TID: 71, Arch: unix.AUDIT_ARCH_X86_64}, Outcome: o,
		Duration: 1500 * time.Microsecond,
	}
}

func TestOf(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("x", 3600))
	e := Of(record(audit.Outcome{Plugin: "mknod", Kind: audit.Errno, Errno: 4000, Err: errors.New("no\nluck")}), at)
	if e.Container != `a\nb` || len(e.Name) != maxName || e.Comm != `\x1b[2J` || e.Errno != "4000" ||
		e.Error != `no\nluck` || e.Value != nil ||
		*e.UID != 100005 || *e.ContainerUID != 5 || e.ContainerPID != 7 || e.Milliseconds != 1.5 || e.Time.Location() != time.UTC {
		t.Errorf("got %+v", e)
	}
	if e = Of(record(audit.Outcome{Kind: audit.Return, Value: 0}), at); e.Value == nil || *e.Value != 0 {
		t.Error("a value of 0 is left out")
	}
	r := record(audit.Outcome{Kind: audit.Continue, Reason: audit.Reason{Plugin: "mknod", Code: "x"}})
	r.Caller.UID = 5
	if e = Of(r, at); e.Plugin != "mknod" || e.ContainerUID != nil {
		t.Errorf("got %+v", e)
	}
	r.Caller = nil
	if e = Of(r, at); e.UID != nil || e.Comm != "" || e.TID != 71 {
		t.Errorf("got %+v", e)
	}
	text, err := json.Marshal(Lost(3, at))
	if err != nil || !regexp.MustCompile(`^\{"schema":1,"time":"[^"]*","dropped":3\}$`).Match(text) {
		t.Errorf("%s, %v", text, err)
	}
}
