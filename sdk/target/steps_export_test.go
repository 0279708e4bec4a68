package target

// ForkInto is for tests.
func (s *Steps) ForkInto(folder int) { s.forkInto(folder) }
