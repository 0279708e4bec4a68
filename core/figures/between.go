package figures

import "time"

// Since returns the calls that were counted after those before. A number that is lower than before was counted anew.
func (c Calls) Since(before Calls) Calls {
	return Calls{
		Return: since(c.Return, before.Return), Errno: since(c.Errno, before.Errno), Continue: since(c.Continue, before.Continue),
		AddFD: since(c.AddFD, before.AddFD), Gone: since(c.Gone, before.Gone), Again: since(c.Again, before.Again),
		Next: since(c.Next, before.Next), Failed: since(c.Failed, before.Failed),
	}
}

func since(now, before uint64) uint64 {
	if now < before {
		return now
	}
	return now - before
}

// Since returns the durations that were counted after those before.
func (d Durations) Since(before Durations) Durations {
	between := make(Durations, len(d))
	for i, n := range d {
		if i < len(before) {
			n = since(n, before[i])
		}
		between[i] = n
	}
	return between
}

// Quantile returns the duration that a part q (from 0 to 1) of the calls did not exceed: within its class, calls count
// as spread evenly. It is 0 without calls, and the lower bound of the last class for what is in that.
func (d Durations) Quantile(q float64) time.Duration {
	var all uint64
	for _, n := range d {
		all += n
	}
	left := q * float64(all)
	for class, n := range d {
		if n == 0 || left > float64(n) {
			left -= float64(n)
			continue
		}
		low := lowerBound(class)
		if class >= classes-1 {
			return low
		}
		return low + time.Duration(left/float64(n)*float64(lowerBound(class+1)-low))
	}
	return 0
}
