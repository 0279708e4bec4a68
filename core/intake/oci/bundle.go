package oci

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// maxConfig bounds the config of a bundle, in bytes.
const maxConfig = 16 << 20

// CgroupsPath reads linux.cgroupsPath of the bundle's config.json; empty: there is none, or it cannot be read. The
// bundle is to be named by somebody who may have root read it.
func CgroupsPath(bundle string) string {
	if !filepath.IsAbs(bundle) {
		return ""
	}
	file, err := os.OpenFile(filepath.Join(bundle, "config.json"), os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return ""
	}
	defer file.Close()
	var config struct {
		Linux struct {
			CgroupsPath string `json:"cgroupsPath"`
		} `json:"linux"`
	}
	if json.NewDecoder(io.LimitReader(file, maxConfig)).Decode(&config) != nil {
		return ""
	}
	return config.Linux.CgroupsPath
}
