package main

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// kubeletDir is where a kubelet keeps what is its own (--root-dir).
const kubeletDir = "/var/lib/kubelet"

// userIDs is how many IDs the user namespace of a pod has.
const userIDs = 65536

// pod is a pod of a manifest, or that of a DaemonSet on this node. What a kubelet makes of it is said in its folder
// pkg/kubelet/kuberuntime.
type pod struct {
	meta.ObjectMeta
	Spec core.PodSpec
	site site
	ids  []*cri.IDMapping // of its user namespace; empty: the host's
}

// complete gives the pod what an API server and a kubelet give it. number is that of the pod on its node.
func (p *pod) complete(number int, site site) {
	if p.Namespace == "" {
		p.Namespace = "default"
	}
	p.UID = types.UID("uid-" + p.Name)
	p.site = site
	if p.Spec.HostUsers != nil && !*p.Spec.HostUsers {
		p.ids = []*cri.IDMapping{{HostId: uint32(number+1) * userIDs, Length: userIDs}}
	}
}

// folder is the kubelet's for the pod.
func (p *pod) folder() string { return filepath.Join(kubeletDir, "pods", string(p.UID)) }

// logs is the folder for the logs of its containers (--pod-logs-dir).
func (p *pod) logs() string { return fmt.Sprintf("/var/log/pods/%s_%s_%s", p.Namespace, p.Name, p.UID) }

// handler is the runtime's that the pod's RuntimeClass names.
func (p *pod) handler(handlers map[string]string) (string, error) {
	class := p.Spec.RuntimeClassName
	if class == nil {
		return "", nil
	}
	handler, ok := handlers[*class]
	if !ok {
		return "", fmt.Errorf("there is no RuntimeClass %q", *class)
	}
	return handler, nil
}

func (p *pod) sandbox() *cri.PodSandboxConfig {
	return &cri.PodSandboxConfig{
		Metadata:     &cri.PodSandboxMetadata{Name: p.Name, Namespace: p.Namespace, Uid: string(p.UID)},
		Hostname:     p.Name,
		LogDirectory: p.logs(),
		DnsConfig:    &cri.DNSConfig{Servers: []string{"10.96.0.10"}, Searches: []string{p.Namespace + ".svc.cluster.local"}},
		Labels:       p.labels(p.Labels),
		Annotations:  p.Annotations,
		Linux: &cri.LinuxPodSandboxConfig{
			CgroupParent: p.cgroup(),
			SecurityContext: &cri.LinuxSandboxSecurityContext{
				NamespaceOptions: p.namespaces(),
				Privileged:       slices.ContainsFunc(p.all(), privileged),
				Seccomp:          &cri.SecurityProfile{ProfileType: cri.SecurityProfile_RuntimeDefault},
			},
		},
	}
}

func (p *pod) all() []core.Container { return slices.Concat(p.Spec.InitContainers, p.Spec.Containers) }

// labels are those by which a kubelet finds its pods again, and further ones.
func (p *pod) labels(more map[string]string) map[string]string {
	labels := map[string]string{
		"io.kubernetes.pod.name": p.Name, "io.kubernetes.pod.namespace": p.Namespace, "io.kubernetes.pod.uid": string(p.UID),
	}
	maps.Copy(labels, more)
	return labels
}

// cgroup is the pod's, by its class of service (pkg/kubelet/cm of Kubernetes).
func (p *pod) cgroup() string {
	class := "besteffort"
	for _, c := range p.all() {
		if len(c.Resources.Requests)+len(c.Resources.Limits) > 0 {
			class = "burstable"
		}
	}
	if p.site.systemd {
		return fmt.Sprintf("kubepods-%s-pod%s.slice", class, strings.ReplaceAll(string(p.UID), "-", "_"))
	}
	return fmt.Sprintf("/kubepods/%s/pod%s", class, p.UID)
}

func (p *pod) namespaces() *cri.NamespaceOption {
	options := &cri.NamespaceOption{Pid: cri.NamespaceMode_CONTAINER, UsernsOptions: &cri.UserNamespace{Mode: cri.NamespaceMode_NODE}}
	if p.Spec.HostPID {
		options.Pid = cri.NamespaceMode_NODE
	}
	if len(p.ids) > 0 {
		options.UsernsOptions = &cri.UserNamespace{Mode: cri.NamespaceMode_POD, Uids: p.ids, Gids: p.ids}
	}
	return options
}
