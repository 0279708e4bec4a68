package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
)

var storeProbe = probe{
	name: "descriptor store", try: tryStore,
	purpose: "containers outlive the daemon (systemd's descriptor store)",
	without: "containers get ENOSYS when the daemon ends, unless `intercede keep -- intercede serve` started it: install the units of deploy/systemd, or do that",
}

// daemonUnit is systemd's of the daemon.
const daemonUnit = "intercede.service"

// wantedDescriptors are enough for 1,000 containers with an exec session each.
const wantedDescriptors = 4096

// tryStore asks systemd what the daemon's unit has.
func tryStore(ctx context.Context) (string, error) {
	if _, err := os.Stat("/run/systemd/system"); errors.Is(err, fs.ErrNotExist) {
		return "", errors.New("systemd does not run here")
	}
	properties, err := showUnit(ctx, daemonUnit, "LoadState", "FileDescriptorStoreMax", "NFileDescriptorStore")
	if err != nil {
		return "", err
	}
	if state := properties["LoadState"]; state != "loaded" {
		return "", fmt.Errorf("%s is %s", daemonUnit, state)
	}
	size, err := strconv.Atoi(properties["FileDescriptorStoreMax"])
	found := fmt.Sprintf("%s of %d descriptors", properties["NFileDescriptorStore"], size)
	if err != nil || size < wantedDescriptors {
		return found, fmt.Errorf("FileDescriptorStoreMax= of %s: want %d for 1,000 containers", daemonUnit, wantedDescriptors)
	}
	return found, nil
}
