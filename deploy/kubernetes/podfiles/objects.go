package main

import (
	"fmt"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	node "k8s.io/api/node/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/intercede/intercede/deploy/kubernetes/manifest"
)

// objects are those of manifests.
type objects struct {
	pods     []*pod
	handlers map[string]string // of the RuntimeClasses, by name
}

func read(files []string) (*objects, error) {
	all := &objects{handlers: map[string]string{}}
	for _, file := range files {
		found, err := manifest.Read(file)
		if err != nil {
			return nil, err
		}
		for _, object := range found {
			if err := all.add(object); err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
		}
	}
	return all, nil
}

func (o *objects) add(object runtime.Object) error {
	switch object := object.(type) {
	case *core.Pod:
		o.pods = append(o.pods, &pod{ObjectMeta: object.ObjectMeta, Spec: object.Spec})
	case *apps.DaemonSet:
		p := &pod{ObjectMeta: object.Spec.Template.ObjectMeta, Spec: object.Spec.Template.Spec}
		p.Name, p.Namespace = object.Name, object.Namespace
		o.pods = append(o.pods, p)
	case *node.RuntimeClass:
		o.handlers[object.Name] = object.Handler
	default:
		return fmt.Errorf("objects of the kind %s are not known here", object.GetObjectKind().GroupVersionKind())
	}
	return nil
}
