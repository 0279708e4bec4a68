package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	core "k8s.io/api/core/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// mounts are the container's volumes, and files that a kubelet mounts into every container, with the IDs of the pod's
// user namespace.
func (p *pod) mounts(c core.Container) ([]*cri.Mount, error) {
	var mounts []*cri.Mount
	for _, m := range c.VolumeMounts {
		folder, readOnly, err := p.volume(m.Name)
		if err != nil {
			return nil, err
		}
		path, err := filepath.EvalSymlinks(filepath.Join(folder, m.SubPath))
		if err != nil {
			return nil, err
		}
		mounts = append(mounts, &cri.Mount{HostPath: path, ContainerPath: m.MountPath, Readonly: m.ReadOnly || readOnly})
	}
	for path, file := range map[string]string{
		"/etc/hosts":           filepath.Join(p.folder(), "etc-hosts"),
		"/dev/termination-log": filepath.Join(p.folder(), "containers", c.Name, "0"),
	} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o750), os.WriteFile(file, nil, 0o644)); err != nil {
			return nil, err
		}
		mounts = append(mounts, &cri.Mount{HostPath: file, ContainerPath: path})
	}
	for _, m := range mounts {
		m.UidMappings, m.GidMappings = p.ids, p.ids
	}
	return mounts, nil
}

// volume makes a volume of the pod, unless it is there. It gives its folder, and whether containers can only read it.
func (p *pod) volume(name string) (folder string, readOnly bool, err error) {
	i := slices.IndexFunc(p.Spec.Volumes, func(v core.Volume) bool { return v.Name == name })
	if i < 0 {
		return "", false, fmt.Errorf("there is no volume %q", name)
	}
	switch v := p.Spec.Volumes[i]; {
	case v.HostPath != nil:
		return v.HostPath.Path, false, hostPath(v.HostPath)
	case v.EmptyDir != nil:
		folder = filepath.Join(p.folder(), "volumes/kubernetes.io~empty-dir", name)
		return folder, false, openFolder(folder)
	case v.ConfigMap != nil:
		folder = filepath.Join(p.folder(), "volumes/kubernetes.io~configmap", name)
		return folder, true, p.configMap(v.ConfigMap, folder)
	}
	return "", false, fmt.Errorf("the volume %q is of a kind that is not known here", name)
}

func hostPath(v *core.HostPathVolumeSource) error {
	if v.Type != nil && *v.Type == core.HostPathDirectoryOrCreate {
		return os.MkdirAll(v.Path, 0o755)
	}
	info, err := os.Stat(v.Path)
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%s is not a directory", v.Path)
	}
	return err
}

// openFolder: everybody may write the folder of a volume (pkg/volume/emptydir, which configmap begins with).
func openFolder(folder string) error {
	return errors.Join(os.MkdirAll(folder, 0o750), os.Chmod(folder, 0o777))
}

// configMap has the files in a folder below it, which a kubelet replaces as a whole, and links to them
// (pkg/volume/util/atomic_writer.go).
func (p *pod) configMap(v *core.ConfigMapVolumeSource, folder string) error {
	source, ok := p.site.configMaps[v.Name]
	if !ok {
		return fmt.Errorf("there is no ConfigMap %q", v.Name)
	}
	data := filepath.Join(folder, "..2026_01_02_03_04_05.6")
	err := errors.Join(openFolder(folder), os.RemoveAll(data), os.CopyFS(data, os.DirFS(source)))
	files, _ := filepath.Glob(data + "/*") // fails for bad patterns alone
	for _, file := range files {
		link := filepath.Join(folder, filepath.Base(file))
		err = errors.Join(err, os.Chmod(file, os.FileMode(*v.DefaultMode)), replaceLink("..data/"+filepath.Base(file), link))
	}
	return errors.Join(err, replaceLink(filepath.Base(data), folder+"/..data"))
}

func replaceLink(target, path string) error {
	os.Remove(path)
	return os.Symlink(target, path)
}
