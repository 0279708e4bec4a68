package policy

import (
	"encoding/json"
	"strconv"
)

// Container describes a container to the rules. What it has not is empty.
type Container struct {
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

// The annotations in which engines name a container, its image and its labels. Where there are several, the first that
// the container has counts.
//
//	engine          name                               image                            labels
//	containerd CRI  io.kubernetes.cri.container-name   io.kubernetes.cri.image-name     -
//	CRI-O           io.kubernetes.cri-o.Name           io.kubernetes.cri-o.ImageName    io.kubernetes.cri-o.Labels (JSON)
//	nerdctl         nerdctl/name                       -                                each is an annotation
//	podman, docker  -                                  -                                -
//	ctr             -                                  -                                -
//
// Podman passes on what `--annotation` and the image's manifest say.
var (
	nameAnnotations  = []string{"io.kubernetes.cri.container-name", "io.kubernetes.cri-o.Name", "nerdctl/name"}
	imageAnnotations = []string{"io.kubernetes.cri.image-name", "io.kubernetes.cri-o.ImageName"}
	labelsAnnotation = "io.kubernetes.cri-o.Labels"
)

// completed adds what the annotations say.
func (c Container) completed() Container {
	if c.Name == "" {
		c.Name = c.annotation(nameAnnotations)
	}
	if c.Image == "" {
		c.Image = c.annotation(imageAnnotations)
	}
	if c.Labels == nil {
		json.Unmarshal([]byte(c.Annotations[labelsAnnotation]), &c.Labels) // what is no JSON object has no labels
	}
	return c
}

func (c *Container) annotation(names []string) string {
	for _, name := range names {
		if value := c.Annotations[name]; value != "" {
			return value
		}
	}
	return ""
}

// values are what the container has for a key of match. name is that of an annotation or label.
func (c *Container) values(key, name string) []string {
	switch key {
	case "runtime":
		return given(c.Runtime)
	case "id":
		return given(c.ID)
	case "name":
		return given(c.Name)
	case "image":
		return given(c.Image)
	case "cookie":
		return given(c.Cookie)
	case "cgroup":
		return c.Cgroups
	case "peer_uid":
		if c.PeerUID == nil {
			return nil
		}
		return []string{strconv.FormatUint(uint64(*c.PeerUID), 10)}
	case "labels":
		if value, ok := c.Labels[name]; ok {
			return []string{value}
		}
	}
	if value, ok := c.Annotations[name]; ok {
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
