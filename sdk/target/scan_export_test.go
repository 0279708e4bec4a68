package target

// ScanForTID is what TranslateTID does on kernels before 6.11.
func (t *Target) ScanForTID(tid int) (int, error) { return t.scanForTID(tid) }

// ParseNSpid is for its fuzzer.
var ParseNSpid = parseNSpid
