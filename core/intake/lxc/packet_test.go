package lxc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/intercede/intercede/internal/notify"
)

// goodPacket is a packet as LXC sends it.
func goodPacket(cookie string) []byte {
	return encode(
		&header{Monitor: 10, Init: 11, NotificationSize: notificationSize, ResponseSize: responseSize, DataSize: dataSize,
			CookieLength: uint64(len(cookie))},
		&notify.Notification{ID: 7, TID: 12, NR: 133, Arch: 0xc000003e, Args: [6]uint64{1, 2, 3, 4, 5, 6}},
		&response{ID: 7}, []byte(cookie))
}

func encode(parts ...any) []byte {
	var data bytes.Buffer
	for _, part := range parts {
		if err := binary.Write(&data, binary.NativeEndian, part); err != nil {
			panic(err)
		}
	}
	return data.Bytes()
}

// changed is the packet with other bytes at an offset.
func changed(data []byte, offset int, bytes ...byte) []byte {
	data = append([]byte(nil), data...)
	copy(data[offset:], bytes)
	return data
}

// TestParseRealPacket has a packet of LXC 5.0.2 on amd64: mknodat of c 1:3, cookie "hello".
func TestParseRealPacket(t *testing.T) {
	data, err := os.ReadFile("testdata/lxc-5.0.2-mknodat")
	if err != nil {
		t.Fatal(err)
	}
	got, err := parsePacket(data)
	if err != nil {
		t.Fatal(err)
	}
	n := got.notification
	if got.cookie != "hello" || n.NR != 259 || n.Arch != 0xc000003e || n.Args[2] != 0o20666 || n.Args[3] != 0x103 {
		t.Errorf("got %+v", got)
	}
	if got.monitor <= 0 || got.init <= got.monitor || int(n.TID) <= got.init {
		t.Errorf("pids of monitor, init, caller: %d, %d, %d", got.monitor, got.init, n.TID)
	}
}

func TestParsePacket(t *testing.T) {
	for _, cookie := range []string{"", "c", strings.Repeat("c", maxCookie)} {
		got, err := parsePacket(goodPacket(cookie))
		if err != nil || got.monitor != 10 || got.init != 11 || got.cookie != cookie ||
			got.notification.ID != 7 || got.notification.Args[5] != 6 {
			t.Errorf("cookie of %d bytes: %+v, %v", len(cookie), got, err)
		}
	}
}

func TestParsePacketRefuses(t *testing.T) {
	good := goodPacket("cookie")
	for name, test := range map[string]struct {
		data []byte
		want string
	}{
		"nothing":                 {nil, "0 bytes"},
		"a byte":                  {good[:1], "1 bytes"},
		"a byte too few":          {goodPacket("")[:ReplySize-1], "135 bytes"},
		"too long":                {goodPacket(strings.Repeat("c", maxCookie+1)), "4096"},
		"reserved":                {changed(good, 7, 1), "reserved"},
		"monitor 0":               {changed(good, 8, 0, 0, 0, 0), "pids 0 of the monitor"},
		"negative init":           {changed(good, 12, 255, 255, 255, 255), "-1 of the container"},
		"caller not visible":      {changed(good, headerSize+8, 0, 0, 0, 0), "0 of the caller"},
		"negative caller":         {changed(good, headerSize+8, 0, 0, 0, 0x80), "of the caller"},
		"size of seccomp_notif":   {changed(good, 16, 88), "[88 24 64]"},
		"size of the response":    {changed(good, 18, 32), "[80 32 64]"},
		"size of seccomp_data":    {changed(good, 20, 0), "[80 24 0]"},
		"sizes in another order":  {changed(good, 16, 24, 0, 80, 0), "[24 80 64]"},
		"longer cookie announced": {changed(good, 24, 7), "7 bytes is announced"},
		"shorter one":             {changed(good, 24, 5), "5 bytes is announced"},
		"huge one":                {changed(good, 24, 255, 255, 255, 255, 255, 255, 255, 255), "18446744073709551615"},
		"none":                    {changed(good, 24, 0), "0 bytes is announced"},
		"NUL in the cookie":       {changed(good, ReplySize+2, 0), "NUL"},
		"two ids":                 {changed(good, responseAt, 8), "notification 7, and a response to 8"},
		"fields shifted by one":   {append([]byte{0}, good...), "structures have"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parsePacket(test.data)
			if !errors.Is(err, ErrPacket) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

// TestEncodeReply checks that a reply is the packet, without its cookie and with the response.
func TestEncodeReply(t *testing.T) {
	packet := goodPacket("cookie")
	reply := encodeReply(packet, response{ID: 7, Value: -1, Errno: -17, Flags: 1})
	if len(reply) != 136 || !bytes.Equal(reply[:responseAt], packet[:responseAt]) {
		t.Errorf("%d bytes: %x", len(reply), reply)
	}
	if want := encode(&response{7, -1, -17, 1}); !bytes.Equal(reply[responseAt:], want) {
		t.Errorf("response %x, want %x", reply[responseAt:], want)
	}
}

// FuzzParsePacket: a packet is refused, or says what it says in one way only.
func FuzzParsePacket(f *testing.F) {
	f.Add(goodPacket(""))
	f.Add(goodPacket("cookie"))
	f.Add(changed(goodPacket("cookie"), 16, 24, 0, 80, 0))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := parsePacket(data)
		if err != nil {
			if !errors.Is(err, ErrPacket) {
				t.Errorf("error %v", err)
			}
			return
		}
		if p.monitor <= 0 || p.init <= 0 || p.notification.TID == 0 {
			t.Errorf("pids in %+v", p)
		}
		again := encode(
			&header{Monitor: int32(p.monitor), Init: int32(p.init), NotificationSize: 80, ResponseSize: 24, DataSize: 64,
				CookieLength: uint64(len(p.cookie))},
			&p.notification, data[responseAt:ReplySize], []byte(p.cookie))
		copy(again[22:24], data[22:24]) // padding
		if !bytes.Equal(again, data) {
			t.Errorf("%x was read from %x", again, data)
		}
	})
}
