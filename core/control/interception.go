package control

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"

	"github.com/intercede/intercede/core/policy"
	"github.com/intercede/intercede/core/socket"
	"github.com/intercede/intercede/internal/wire"
	"google.golang.org/protobuf/encoding/protojson"
)

// maxDescription bounds the description of a container, in bytes: the annotations of a real one exceed 32 KiB.
const maxDescription = 8 << 20

// Interception is what a seccomp filter for one container must intercept.
type Interception struct {
	Socket    string    // for OCI runtimes: the filter's listenerPath
	Manifests Manifests // of the container's plugins, see daemon.Setup.ManifestsFor; none: it needs no filter
}

// Manifests are encoded in JSON as protobuf does it.
type Manifests []*wire.Manifest

// MarshalJSON encodes an array.
func (m Manifests) MarshalJSON() ([]byte, error) {
	texts := make([]json.RawMessage, len(m))
	for i := range m {
		var err error
		if texts[i], err = protojson.Marshal(m[i]); err != nil {
			return nil, err
		}
	}
	return json.Marshal(texts)
}

// UnmarshalJSON decodes what MarshalJSON encodes.
func (m *Manifests) UnmarshalJSON(text []byte) error {
	var texts []json.RawMessage
	if err := json.Unmarshal(text, &texts); err != nil {
		return err
	}
	*m = make(Manifests, len(texts))
	for i := range texts {
		(*m)[i] = &wire.Manifest{}
		if err := protojson.Unmarshal(texts[i], (*m)[i]); err != nil {
			return err
		}
	}
	return nil
}

// GetInterception asks the daemon whose admin socket is at path what a filter for the described container must
// intercept. The daemon replaces PeerUID by this process's user ID.
func GetInterception(ctx context.Context, path string, d policy.Description) (*Interception, error) {
	text, err := json.Marshal(d)
	if err != nil {
		return nil, err
	}
	answer := &Interception{}
	if err := ask(ctx, path, http.MethodPost, interceptionPath, bytes.NewReader(text), answer); err != nil {
		return nil, fmt.Errorf("asking the daemon on %q: %w", path, err)
	}
	return answer, nil
}

func (s Source) answerInterception(w http.ResponseWriter, r *http.Request) {
	var d policy.Description
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxDescription)).Decode(&d); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	d.PeerUID = peerOf(r.Context())
	interception, err := s.Interception(d)
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	answer(w, interception)
}

type peerKey struct{}

// withPeer stores the user ID of a connection's peer in the context of its requests.
func withPeer(ctx context.Context, conn net.Conn) context.Context {
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		return ctx
	}
	peer, err := socket.Peer(unixConn)
	if err != nil {
		return ctx
	}
	return context.WithValue(ctx, peerKey{}, peer.Uid)
}

// peerOf returns the user ID that withPeer stored; nil: the kernel did not tell.
func peerOf(ctx context.Context) *uint32 {
	uid, ok := ctx.Value(peerKey{}).(uint32)
	if !ok {
		return nil
	}
	return &uid
}
