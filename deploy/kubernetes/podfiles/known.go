package main

import (
	"encoding/json"
	"fmt"
	"slices"
)

// known are the fields of a pod's spec that are translated, or that are not a container runtime's concern.
var known = []string{
	"automountServiceAccountToken", "hostPID", "hostUsers", "nodeSelector", "priorityClassName", "restartPolicy", "runtimeClassName", "tolerations",
	"volumes.name", "volumes.configMap.defaultMode", "volumes.configMap.name", "volumes.emptyDir", "volumes.hostPath.path", "volumes.hostPath.type",
	"containers.name", "containers.image", "containers.command", "containers.args", "containers.readinessProbe.exec.command",
	"containers.resources.limits.memory", "containers.resources.requests", "containers.securityContext.capabilities",
	"containers.securityContext.privileged", "containers.securityContext.seccompProfile", "containers.volumeMounts.mountPath",
	"containers.volumeMounts.name", "containers.volumeMounts.readOnly", "containers.volumeMounts.subPath",
}

// checkKnown returns an error for fields that nothing here translates: a test would not notice what they change.
func (p *pod) checkKnown() error {
	text, err := json.Marshal(p.Spec)
	if err != nil {
		return err
	}
	var spec map[string]any
	if err := json.Unmarshal(text, &spec); err != nil {
		return err
	}
	for _, list := range []string{"containers", "initContainers"} {
		if err := checkFields("containers", spec[list]); err != nil {
			return err
		}
		delete(spec, list)
	}
	return checkFields("", spec)
}

// checkFields checks a value at a path: what is in it, if the path itself is not known. Elements of lists have the path
// of the list.
func checkFields(path string, value any) error {
	if slices.Contains(known, path) {
		return nil
	}
	switch value := value.(type) {
	case map[string]any:
		for name, field := range value {
			below := name
			if path != "" {
				below = path + "." + name
			}
			if err := checkFields(below, field); err != nil {
				return err
			}
		}
	case []any:
		for _, element := range value {
			if err := checkFields(path, element); err != nil {
				return err
			}
		}
	case nil:
	default:
		return fmt.Errorf("spec.%s = %v: nothing here does what a kubelet does with this field", path, value)
	}
	return nil
}
