package sdk

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/intercede/intercede/internal/wire"
)

// color is a setting's type of its own.
type color uint8

func (c color) MarshalText() ([]byte, error) { return []byte{"rgb"[c]}, nil }

func (c *color) UnmarshalText(text []byte) error {
	i := strings.IndexByte("rgb", text[0])
	if i < 0 || len(text) != 1 {
		return errors.New("no color")
	}
	*c = color(i)
	return nil
}

type paint struct {
	On     bool              `json:"on" help:"whether it paints"`
	Layers uint8             `json:"layers" help:"of paint" max:"9"`
	Depth  int32             `json:"depth" min:"-3"`
	First  color             `json:"first" pattern:"[rgb]" example:"r"`
	Others []color           `json:"others" pattern:"[rgb]"`
	Mixed  map[string]color  `json:"mixed"`
	Names  map[string]string `json:"names"`
	Large  uint64            `json:"large"`
}

func TestSettingsOf(t *testing.T) {
	m := Manifest{Name: "trial", Version: "1", Syscalls: []Syscall{{Name: "getppid"}}, OnFailure: FailContinue()}
	m.Settings = SettingsOf(paint{Layers: 2, First: 1, Mixed: map[string]color{"a": 2}})
	w, err := m.wire()
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []*wire.Setting{
		{Key: "on", Type: wire.Setting_TYPE_BOOL, DefaultJson: "false", Help: "whether it paints"},
		{Key: "layers", Type: wire.Setting_TYPE_INT, DefaultJson: "2", Help: "of paint", MinBound: least(0), MaxBound: most(9)},
		{Key: "depth", Type: wire.Setting_TYPE_INT, DefaultJson: "0", MinBound: least(-3), MaxBound: most(1<<31 - 1)},
		{Key: "first", Type: wire.Setting_TYPE_STRING, DefaultJson: `"g"`, Pattern: "[rgb]", Example: "r"},
		{Key: "others", Type: wire.Setting_TYPE_STRING_LIST, DefaultJson: "[]", Pattern: "[rgb]"},
		{Key: "mixed", Type: wire.Setting_TYPE_STRING_MAP, DefaultJson: `{"a":"b"}`},
		{Key: "names", Type: wire.Setting_TYPE_STRING_MAP, DefaultJson: "{}"},
		{Key: "large", Type: wire.Setting_TYPE_INT, DefaultJson: "0", MinBound: least(0), MaxBound: most(1<<63 - 1)},
	} {
		if got := w.GetSettings()[i]; got.String() != want.String() {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	var p paint
	text := `{"on":true,"layers":3,"depth":-1,"first":"b","others":["r","g"],"mixed":{"x":"g"},"names":{},"large":7}`
	if err := Settings(text).Decode(&p); err != nil || p.First != 2 || p.Others[1] != 1 || p.Mixed["x"] != 1 || p.Large != 7 {
		t.Errorf("decoded %+v, %v", p, err)
	}
}

func TestSettingsOfFaults(t *testing.T) {
	for want, defaults := range map[string]any{
		"want a struct":                  7,
		"field A: its json tag is to be": struct{ A int }{},
		"field B: its json tag": struct {
			B int `json:"b,omitempty"`
		}{},
		"there is no setting of type float": struct {
			A float64 `json:"a"`
		}{},
		"there is no setting of type []int": struct {
			A []int `json:"a"`
		}{},
		"field a: it is not exported": struct{ a int }{},
		"its tag min: strconv.ParseInt": struct {
			A int `json:"a" min:"one"`
		}{},
		"setting a: min and max are for": struct {
			A string `json:"a" max:"1"`
		}{},
		"setting a: the example": struct {
			A string `json:"a" pattern:"x|" example:"y"`
		}{},
		"default of setting a: 0: want 1 or": struct {
			A int `json:"a" min:"1"`
		}{},
	} {
		m := Manifest{
			Name: "trial", Version: "1", Syscalls: []Syscall{{Name: "getppid"}}, OnFailure: FailContinue(), Settings: SettingsOf(defaults),
		}
		if _, err := m.wire(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestFunc(t *testing.T) {
	own := Setting{Key: "own", Type: Bool, Default: false}
	m := Manifest{Name: "trial", Version: "1", Syscalls: []Syscall{{Name: "getppid"}}, OnFailure: FailContinue(), Settings: []Setting{own}}
	h := Func(m, struct {
		Value int64 `json:"value"`
		Own   bool  `json:"own_too"`
	}{Value: 3}, func(_ context.Context, req *Request, s *struct {
		Value int64 `json:"value"`
		Own   bool  `json:"own_too"`
	}) (Response, error) {
		return Return(s.Value + int64(req.Args[0])), nil
	})
	if got := h.Manifest().Settings; len(got) != 3 || got[1].Key != "value" || len(m.Settings) != 1 {
		t.Errorf("settings %v", got)
	}
	session, err := h.Attach(t.Context(), Container{}, Settings(`{"value": 40, "own_too": true}`))
	if err != nil {
		t.Fatal(err)
	}
	if response, err := session.Handle(t.Context(), &Request{Args: [6]uint64{2}}); response.String() != "value 42" || err != nil {
		t.Errorf("got %v, %v", response, err)
	}
	if _, err := h.Attach(t.Context(), Container{}, Settings(`{"value": "x"}`)); err == nil {
		t.Error("bad settings are taken")
	}
}

func least(n int64) *wire.Setting_Min { return &wire.Setting_Min{Min: n} }
func most(n int64) *wire.Setting_Max  { return &wire.Setting_Max{Max: n} }
