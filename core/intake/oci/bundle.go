package oci

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// maxConfig bounds the config of a bundle, and what an engine has noted beside it, in bytes.
const maxConfig = 16 << 20

// Bundle is what is known of a container by the folder of its config.json. What is not known is empty.
type Bundle struct {
	CgroupsPath string // linux.cgroupsPath
	// Name and Image are what the engine calls the container and its image: podman and docker tell the runtime neither.
	Name, Image string
}

// ReadBundle reads a bundle, which is to be named by somebody who may have root read it.
func ReadBundle(folder, id string) Bundle {
	if !filepath.IsAbs(folder) {
		return Bundle{}
	}
	var config struct {
		Linux struct {
			CgroupsPath string `json:"cgroupsPath"`
		} `json:"linux"`
		Mounts []struct {
			Source string `json:"source"`
		} `json:"mounts"`
	}
	readJSON(filepath.Join(folder, "config.json"), func(d *json.Decoder) bool { return d.Decode(&config) == nil })
	b := Bundle{CgroupsPath: config.Linux.CgroupsPath}
	for _, m := range config.Mounts {
		// Docker mounts files of a folder in which it keeps the container's state.
		if dir, file := filepath.Split(m.Source); file == "hostname" && filepath.Base(dir) == id {
			b.addDocker(dir)
		}
	}
	if filepath.Base(folder) == "userdata" {
		b.addPodman(filepath.Dir(filepath.Dir(folder)), id)
	}
	return b
}

// addDocker reads what dockerd keeps about a container.
func (b *Bundle) addDocker(folder string) {
	var state struct {
		Name   string
		Config struct{ Image string }
	}
	if readJSON(filepath.Join(folder, "config.v2.json"), func(d *json.Decoder) bool { return d.Decode(&state) == nil }) {
		b.Name, b.Image = short(strings.TrimPrefix(state.Name, "/")), short(state.Config.Image)
	}
}

// addPodman looks for the container among those of the storage (github.com/containers/storage), which has a list of
// those that do not outlive the host's next start beside the other one.
func (b *Bundle) addPodman(storage, id string) {
	for _, name := range []string{"containers.json", "volatile-containers.json"} {
		if readJSON(filepath.Join(storage, name), func(d *json.Decoder) bool { return b.findIn(d, id) }) {
			return
		}
	}
}

// findIn looks for the container in a list, and reports whether it is there.
func (b *Bundle) findIn(list *json.Decoder, id string) bool {
	if _, err := list.Token(); err != nil {
		return false
	}
	for list.More() {
		var c struct {
			ID       string
			Names    []string
			Metadata string
		}
		if list.Decode(&c) != nil {
			return false
		}
		if c.ID != id {
			continue
		}
		var metadata struct {
			Image string `json:"image-name"`
		}
		json.Unmarshal([]byte(c.Metadata), &metadata) // without an image name, there is none to show
		b.Name, b.Image = short(slices.Concat(c.Names, []string{""})[0]), short(metadata.Image)
		return true
	}
	return false
}

// short is the name, unless that is longer than names are: it is kept for each container.
func short(name string) string {
	if len(name) > 1024 {
		return ""
	}
	return name
}

// readJSON calls read with the file's JSON, and returns what that does; false: it cannot be read.
func readJSON(path string, read func(*json.Decoder) bool) bool {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer file.Close()
	return read(json.NewDecoder(io.LimitReader(file, maxConfig)))
}
