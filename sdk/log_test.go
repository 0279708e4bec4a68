package sdk

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestLogRecord has a record as go-plugin reads it.
func TestLogRecord(t *testing.T) {
	for level, want := range map[slog.Level]string{
		slog.LevelDebug: "debug", slog.LevelInfo: "info", slog.LevelWarn: "warn", slog.LevelError: "error", slog.LevelWarn + 1: "warn",
	} {
		var out bytes.Buffer
		slog.New(newLogHandler(&out)).Log(t.Context(), level, "hello", "key", 1, slog.Group("group", "msg", "inner"))
		var record map[string]any
		if err := json.Unmarshal(out.Bytes(), &record); err != nil {
			t.Fatal(err)
		}
		if record["@level"] != want || record["@message"] != "hello" || record["key"] != 1.0 || len(record) != 5 {
			t.Errorf("%v became %v", level, record)
		}
		if group := record["group"].(map[string]any); group["msg"] != "inner" {
			t.Errorf("group %v", group)
		}
		if _, err := time.Parse(hclogTime, record["@timestamp"].(string)); err != nil {
			t.Error(err)
		}
	}
}

// TestContainerLog is limited for each container, whatever is derived of its log.
func TestContainerLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // all in one moment, by its clock
		var out bytes.Buffer
		before := slog.Default()
		slog.SetDefault(slog.New(newLogHandler(&out)))
		defer slog.SetDefault(before)

		one, other := &Container{ID: "one", log: newContainerLog("one")}, &Container{ID: "other", log: newContainerLog("other")}
		req := &Request{ID: 7, Syscall: "mknod", TID: 3, Container: one}
		for range 5 * maxContainerRecords {
			one.Log().Info("of one")
			req.Log().Warn("of a call", "key", 1)
		}
		other.Log().Info("of the other")
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		if len(lines) != maxContainerRecords+1 || !strings.Contains(lines[maxContainerRecords], `"container":"other"`) {
			t.Fatalf("%d lines:\n%s", len(lines), out.String())
		}
		if !strings.HasSuffix(lines[1], `"@message":"of a call","container":"one","syscall":"mknod","call":"7","tid":3,"key":1}`) {
			t.Errorf("the record of a call: %s", lines[1])
		}
		(&Container{ID: "bare"}).Log().Info("of none")
		if !strings.Contains(out.String(), `"container":"bare"`) {
			t.Error("a container that is not from the broker logs nothing")
		}
	})
}
