package caller

// mapLow: there are no 32-bit callers to see the memory.
const mapLow = 0

// getpid32 is getpid(2) of arm.
const getpid32 = 20

func makeCompat(int32, [6]uintptr) Result {
	return Result{Ended: "a 64-bit program of arm64 cannot make 32-bit calls"}
}
