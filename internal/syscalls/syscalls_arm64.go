package syscalls

var numbersHere map[string]uint32
