package capture

import "testing"

func TestHierarchyWanted(t *testing.T) {
	for hierarchy, want := range map[string]bool{"": true, "devices": true, "cpu,memory": true, "cpu": false, "name=systemd": false} {
		if hierarchyWanted(hierarchy, []string{"devices", "memory"}) != want || !hierarchyWanted(hierarchy, nil) {
			t.Errorf("hierarchy %q: want %v", hierarchy, want)
		}
	}
}
