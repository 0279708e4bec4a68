package policy

import (
	"encoding/json"
	"strconv"
)

// Description describes a container to the rules. What the container does not have is empty.
type Description struct {
	ID          string            `json:"id"`
	Runtime     string            `json:"runtime"`         // such as config.RuntimeOCI
	Name        string            `json:"name,omitempty"`  // empty: what the annotations say, see nameAnnotations
	Image       string            `json:"image,omitempty"` // likewise, see imageAnnotations
	Annotations map[string]string `json:"annotations,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`   // nil: what the annotations say, see labels
	PeerUID     *uint32           `json:"peer_uid,omitempty"` // of the process that delivered the listener
	Cgroups     []string          `json:"cgroups,omitempty"`  // the path in each hierarchy, as the broker sees it
	Cookie      string            `json:"cookie,omitempty"`   // lxc.seccomp.notify.cookie
}

// NameAnnotation is where `intercede run` names a container that a daemon serves.
const NameAnnotation = "intercede/name"

// The annotations in which engines name a container, its image and its labels. Where there are several, the first that
// the container has counts.
//
//	engine          name                               image                            labels
//	containerd CRI  io.kubernetes.cri.container-name   io.kubernetes.cri.image-name     -
//	CRI-O           io.kubernetes.cri-o.Name           io.kubernetes.cri-o.ImageName    io.kubernetes.cri-o.Labels (JSON)
//	nerdctl         nerdctl/name                       -                                each is an annotation
//	intercede run   intercede/name                    -                                -
//	podman, docker  -                                  -                                -
//	ctr             -                                  -                                -
//
// Podman passes on what `--annotation` and the image's manifest say.
var (
	nameAnnotations  = []string{"io.kubernetes.cri.container-name", "io.kubernetes.cri-o.Name", "nerdctl/name", NameAnnotation}
	imageAnnotations = []string{"io.kubernetes.cri.image-name", "io.kubernetes.cri-o.ImageName"}
	labelsAnnotation = "io.kubernetes.cri-o.Labels"
)

// Completed returns the description with what the annotations say.
func (d Description) Completed() Description {
	if d.Name == "" {
		d.Name = d.annotation(nameAnnotations)
	}
	if d.Image == "" {
		d.Image = d.annotation(imageAnnotations)
	}
	if d.Labels == nil {
		json.Unmarshal([]byte(d.Annotations[labelsAnnotation]), &d.Labels) // what is not a JSON object has no labels
	}
	return d
}

func (d *Description) annotation(names []string) string {
	for _, name := range names {
		if value := d.Annotations[name]; value != "" {
			return value
		}
	}
	return ""
}

// values returns what the container has for a key of match. name is that of an annotation or label.
func (d *Description) values(key, name string) []string {
	switch key {
	case "runtime":
		return given(d.Runtime)
	case "id":
		return given(d.ID)
	case "name":
		return given(d.Name)
	case "image":
		return given(d.Image)
	case "cookie":
		return given(d.Cookie)
	case "cgroup":
		return d.Cgroups
	case "peer_uid":
		if d.PeerUID == nil {
			return nil
		}
		return []string{strconv.FormatUint(uint64(*d.PeerUID), 10)}
	case "labels":
		if value, ok := d.Labels[name]; ok {
			return []string{value}
		}
	}
	if value, ok := d.Annotations[name]; ok {
		return []string{value}
	}
	return nil
}

func given(value string) []string {
	if value == "" {
		return nil
	}
	return []string{value}
}
