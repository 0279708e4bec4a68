// Podfiles does, for a test without a kubelet, what a kubelet does before it asks a container runtime for the pods of
// manifests: it prepares their folders and volumes on this machine, and writes what it asks for as crictl takes it.
//
//	podfiles [-systemd] [-configmap NAME=FOLDER]... DIR MANIFEST...
//
// A MANIFEST has objects of the kinds Pod, DaemonSet and RuntimeClass. The folder DIR/NAME is a pod's:
//
//	handler       the runtime handler of its RuntimeClass; empty: the runtime's default one
//	init          its init containers, a name a line, in the order in which they run
//	containers    its other containers
//	pod.json      a PodSandboxConfig of the CRI
//	NAME.json     a ContainerConfig
//	NAME.probe    the command of the readiness probe, where there is one, a word a line
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	core "k8s.io/api/core/v1"
)

func main() {
	site := site{configMaps: map[string]string{}}
	flag.BoolVar(&site.systemd, "systemd", false, "the runtime's cgroup driver is systemd, not cgroupfs")
	flag.Func("configmap", "`NAME=FOLDER`: a ConfigMap that has the files of the folder", func(value string) error {
		name, folder, ok := strings.Cut(value, "=")
		if !ok {
			return errors.New("want NAME=FOLDER")
		}
		site.configMaps[name] = folder
		return nil
	})
	flag.Parse()
	if flag.NArg() < 2 {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(flag.Arg(0), flag.Args()[1:], site); err != nil {
		fmt.Fprintln(os.Stderr, "podfiles:", err)
		os.Exit(1)
	}
}

// site is what is the same for all pods.
type site struct {
	systemd    bool
	configMaps map[string]string // folders with the files of each, by name
}

func run(dir string, files []string, site site) error {
	found, err := read(files)
	if err != nil {
		return err
	}
	for i, p := range found.pods {
		p.complete(i, site)
		if err := p.write(filepath.Join(dir, p.Name), found.handlers); err != nil {
			return fmt.Errorf("pod %s: %w", p.Name, err)
		}
	}
	return nil
}

func (p *pod) write(dir string, handlers map[string]string) error {
	if err := p.checkKnown(); err != nil {
		return err
	}
	handler, err := p.handler(handlers)
	if err != nil {
		return err
	}
	files := map[string]any{"handler": handler, "pod.json": p.sandbox()}
	for list, all := range map[string][]core.Container{"init": p.Spec.InitContainers, "containers": p.Spec.Containers} {
		var names []string
		for _, c := range all {
			names = append(names, c.Name)
			if files[c.Name+".json"], err = p.container(c); err != nil {
				return fmt.Errorf("container %s: %w", c.Name, err)
			}
			if c.ReadinessProbe != nil {
				files[c.Name+".probe"] = strings.Join(c.ReadinessProbe.Exec.Command, "\n")
			}
		}
		files[list] = strings.Join(names, "\n")
	}
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.MkdirAll(p.logs(), 0o755)); err != nil {
		return err
	}
	for name, content := range files {
		text, isText := content.(string)
		if !isText {
			encoded, err := json.MarshalIndent(content, "", "\t")
			if err != nil {
				return err
			}
			text = string(encoded)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text+"\n"), 0o644); err != nil {
			return err
		}
	}
	return nil
}
