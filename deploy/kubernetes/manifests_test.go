// Package kubernetes checks the manifests of this folder. It is a module of its own, outside go.work, so that nothing
// of intercede depends on Kubernetes.
package kubernetes

import (
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	node "k8s.io/api/node/v1"

	"github.com/intercede/intercede/deploy/kubernetes/manifest"
)

// Every object is one of Kubernetes' own kinds, with no field that the kind lacks and no value of another type.
func TestManifests(t *testing.T) {
	files, err := filepath.Glob("*.yaml")
	if err != nil || len(files) < 4 {
		t.Fatalf("manifests: %v, %v", files, err)
	}
	for _, file := range files {
		t.Run(file, func(t *testing.T) {
			if objects, err := manifest.Read(file); err != nil || len(objects) == 0 {
				t.Errorf("%d objects, %v", len(objects), err)
			}
		})
	}
}

// The check is one: it refuses what is not in the schema.
func TestManifestsAreChecked(t *testing.T) {
	for name, text := range map[string]string{
		"unknown kind":  "apiVersion: v1\nkind: Pot\n",
		"unknown field": "apiVersion: v1\nkind: Pod\nspec: {hostUser: false}\n",
		"other type":    "apiVersion: v1\nkind: Pod\nspec: {hostUsers: {}}\n",
		"twice":         "apiVersion: v1\nkind: Pod\nspec: {hostUsers: true, hostUsers: false}\n",
		"the second":    "apiVersion: v1\nkind: Pod\n---\napiVersion: v1\nkind: Pot\n",
	} {
		t.Run(name, func(t *testing.T) {
			if objects, err := manifest.Parse([]byte(text)); err == nil {
				t.Errorf("accepted: %v", objects)
			}
		})
	}
}

// one is the only object of a manifest.
func one[T any](t *testing.T, file string) T {
	t.Helper()
	objects, err := manifest.Read(file)
	if err != nil || len(objects) != 1 {
		t.Fatalf("%d objects, %v", len(objects), err)
	}
	object, ok := objects[0].(T)
	if !ok {
		t.Fatalf("%s has a %T", file, objects[0])
	}
	return object
}

func text(t *testing.T, file string) string {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// runtimes are those of containerd.toml, by their handlers.
func runtimes(t *testing.T) map[string]struct{ Options struct{ BinaryName string } } {
	t.Helper()
	var config struct {
		Plugins map[string]struct {
			Containerd struct {
				Runtimes map[string]struct{ Options struct{ BinaryName string } }
			}
		}
	}
	if _, err := toml.DecodeFile("containerd.toml", &config); err != nil {
		t.Fatal(err)
	}
	return config.Plugins["io.containerd.cri.v1.runtime"].Containerd.Runtimes
}

// The pod names the class, the class a handler of containerd, and that the wrapper that intercede-node installs.
func TestRuntimeClass(t *testing.T) {
	class := one[*node.RuntimeClass](t, "runtimeclass.yaml")
	if pod := one[*core.Pod](t, "pod-runtimeclass.yaml"); pod.Spec.RuntimeClassName == nil || *pod.Spec.RuntimeClassName != class.Name {
		t.Errorf("the pod has the class %v, want %s", pod.Spec.RuntimeClassName, class.Name)
	}
	wrapper := runtimes(t)[class.Handler].Options.BinaryName
	if !strings.Contains(text(t, "intercede-node"), "ln -sfn intercede $host"+wrapper+"\n") {
		t.Errorf("intercede-node does not install the wrapper %q of the handler %s", wrapper, class.Handler)
	}
}

// The pod names the profile that intercede-node installs, below the kubelet's folder.
func TestLocalhostProfile(t *testing.T) {
	profile := one[*core.Pod](t, "pod-localhost.yaml").Spec.Containers[0].SecurityContext.SeccompProfile
	if profile.Type != core.SeccompProfileTypeLocalhost || profile.LocalhostProfile == nil {
		t.Fatalf("the pod has the profile %+v", profile)
	}
	if file := path.Join("/var/lib/kubelet/seccomp", *profile.LocalhostProfile); !strings.Contains(text(t, "intercede-node"), " "+file+"\n") {
		t.Errorf("intercede-node does not install %s", file)
	}
}

// The DaemonSet's containers have what intercede-node and the config expect where they expect it.
func TestDaemonSetVolumes(t *testing.T) {
	spec := one[*apps.DaemonSet](t, "daemonset.yaml").Spec.Template.Spec
	var config struct {
		Broker struct{ Socket, Control string }
	}
	if _, err := toml.DecodeFile("../../config.toml", &config); err != nil {
		t.Fatal(err)
	}
	sockets := path.Dir(config.Broker.Socket)
	for _, c := range []core.Container{spec.InitContainers[0], spec.Containers[0]} {
		if !strings.Contains(text(t, "Dockerfile"), " -t "+c.Image+" ") {
			t.Errorf("%s: the Dockerfile is not of the image %s", c.Name, c.Image)
		}
		wantMount(t, spec, c, "/host", "/")
		config := mount(t, c, "/etc/intercede/config.toml")
		// Everybody may write the folder of a ConfigMap (pkg/volume/emptydir/empty_dir.go of Kubernetes), where
		// intercede takes no config.
		if config.SubPath != "config.toml" || volume(t, spec, config.Name).ConfigMap == nil {
			t.Errorf("%s: the config is %+v", c.Name, config)
		}
	}
	// The node's runtimes connect to the socket.
	wantMount(t, spec, spec.Containers[0], sockets, sockets)
	wantMount(t, spec, spec.Containers[0], "/sys/fs/cgroup", "/sys/fs/cgroup")
	if !spec.HostPID || path.Dir(config.Broker.Control) != sockets {
		t.Errorf("hostPID %v, control %s", spec.HostPID, config.Broker.Control)
	}
}

func mount(t *testing.T, c core.Container, at string) core.VolumeMount {
	t.Helper()
	i := slices.IndexFunc(c.VolumeMounts, func(m core.VolumeMount) bool { return m.MountPath == at })
	if i < 0 {
		t.Fatalf("%s: nothing is mounted at %s", c.Name, at)
	}
	return c.VolumeMounts[i]
}

func volume(t *testing.T, spec core.PodSpec, name string) core.Volume {
	t.Helper()
	i := slices.IndexFunc(spec.Volumes, func(v core.Volume) bool { return v.Name == name })
	if i < 0 {
		t.Fatalf("there is no volume %s", name)
	}
	return spec.Volumes[i]
}

func wantMount(t *testing.T, spec core.PodSpec, c core.Container, at, ofHost string) {
	t.Helper()
	if v := volume(t, spec, mount(t, c, at).Name); v.HostPath == nil || v.HostPath.Path != ofHost {
		t.Errorf("%s: %+v is mounted at %s, want the node's %s", c.Name, v, at, ofHost)
	}
}
