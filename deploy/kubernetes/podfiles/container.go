package main

import (
	"fmt"
	"path/filepath"

	core "k8s.io/api/core/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// container is what is asked for a container that starts for the first time.
func (p *pod) container(c core.Container) (*cri.ContainerConfig, error) {
	mounts, err := p.mounts(c)
	if err != nil {
		return nil, err
	}
	security, err := p.security(c.SecurityContext)
	if err != nil {
		return nil, err
	}
	return &cri.ContainerConfig{
		Metadata: &cri.ContainerMetadata{Name: c.Name},
		Image:    &cri.ImageSpec{Image: c.Image},
		Command:  c.Command,
		Args:     c.Args,
		Mounts:   mounts,
		Labels:   p.labels(map[string]string{"io.kubernetes.container.name": c.Name}),
		Annotations: map[string]string{
			"io.kubernetes.container.restartCount": "0", "io.kubernetes.container.terminationMessagePath": "/dev/termination-log",
		},
		LogPath: filepath.Join(c.Name, "0.log"),
		Linux: &cri.LinuxContainerConfig{
			Resources:       &cri.LinuxContainerResources{MemoryLimitInBytes: c.Resources.Limits.Memory().Value(), CpuShares: shares(c)},
			SecurityContext: security,
		},
	}, nil
}

// shares are 1024 for a processor, and 2 at least (cgroup v1's cpu.shares).
func shares(c core.Container) int64 {
	return max(2, c.Resources.Requests.Cpu().MilliValue()*1024/1000)
}

func privileged(c core.Container) bool {
	return c.SecurityContext != nil && c.SecurityContext.Privileged != nil && *c.SecurityContext.Privileged
}

func (p *pod) security(context *core.SecurityContext) (*cri.LinuxContainerSecurityContext, error) {
	security := &cri.LinuxContainerSecurityContext{
		NamespaceOptions: p.namespaces(),
		Seccomp:          &cri.SecurityProfile{ProfileType: cri.SecurityProfile_Unconfined},
	}
	if context == nil {
		context = &core.SecurityContext{}
	}
	if context.Privileged != nil && *context.Privileged {
		security.Privileged = true
	} else {
		security.MaskedPaths = []string{
			"/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
			"/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
		}
		security.ReadonlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
	}
	if c := context.Capabilities; c != nil {
		security.Capabilities = &cri.Capability{AddCapabilities: names(c.Add), DropCapabilities: names(c.Drop)}
	}
	if s := context.SeccompProfile; s != nil {
		var err error
		if security.Seccomp, err = seccomp(s); err != nil {
			return nil, err
		}
	}
	return security, nil
}

func names(list []core.Capability) []string {
	var all []string
	for _, c := range list {
		all = append(all, string(c))
	}
	return all
}

func seccomp(s *core.SeccompProfile) (*cri.SecurityProfile, error) {
	switch s.Type {
	case core.SeccompProfileTypeRuntimeDefault:
		return &cri.SecurityProfile{ProfileType: cri.SecurityProfile_RuntimeDefault}, nil
	case core.SeccompProfileTypeLocalhost:
		file := filepath.Join(kubeletDir, "seccomp", *s.LocalhostProfile)
		return &cri.SecurityProfile{ProfileType: cri.SecurityProfile_Localhost, LocalhostRef: file}, nil
	}
	return nil, fmt.Errorf("a seccompProfile of the type %s is not known here", s.Type)
}
