package bench

import "sync/atomic"

type counter struct{ atomic.Int64 }

func (c *counter) add(n int64) { c.Add(n) }
