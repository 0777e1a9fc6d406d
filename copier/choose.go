package copier

import "fmt"

// prepare chooses the engine of a file, and gives the copy its length.
func (c *copying) prepare(p *pair) error {
	if (c.Engine == Auto || c.Engine == Clone) && !p.again {
		cloned, err := c.clone(p)
		if err != nil {
			return err
		}
		if cloned {
			return nil
		}
	}
	if err := c.chooseEngine(p); err != nil {
		return err
	}
	return c.reserve(p)
}

// chooseEngine takes the forced engine, or for auto the best that the two
// descriptors allow. An engine that turns out not to work for a file gives
// way to the next, forced or not: a hook must not fail for a wrong guess.
func (c *copying) chooseEngine(p *pair) error {
	if c.Engine == Range && !c.noRange.Load() {
		return p.takeRange("as told")
	}
	if !p.out.Direct.Load() {
		p.out.DontCache.Store(p.size >= directFrom)
		p.take(Buffered, c.whyBuffered(p))
		return nil
	}
	out, err := p.out.Stat()
	if err != nil {
		return err
	}
	if c.Engine == Auto && out.Dev == p.dev {
		fs, err := p.out.Space()
		if err != nil {
			return err
		}
		if isServer(fs) && !c.noRange.Load() {
			return p.takeRange("a server copies within itself")
		}
	}
	if err := dropDirect(p.out, &out); err != nil {
		return err
	}
	if p.out.Direct.Load() {
		p.take(Direct, "the SSD's file system takes O_DIRECT")
	} else {
		p.out.DontCache.Store(true)
		p.take(Buffered, "the SSD's file system cannot do O_DIRECT in blocks of 4096 bytes")
	}
	return nil
}

func (c *copying) whyBuffered(p *pair) string {
	switch {
	case c.Engine == Buffered:
		return "as told"
	case p.size < directFrom:
		return fmt.Sprintf("shorter than %d bytes", directFrom)
	}
	return "the SSD's file system refuses O_DIRECT"
}

// reserve gives the copy its length, and its space unless the source is sparse.
// Length does not say that the data is there, and extending a file by direct
// writes would serialise them on XFS. A short file in the page cache needs
// neither.
func (c *copying) reserve(p *pair) error {
	if p.size == 0 || (p.engine == Buffered && p.size < directFrom && !p.sparse) {
		return nil
	}
	if !p.sparse {
		supported, err := p.out.Allocate(p.size)
		if err != nil || (supported && !c.stage.Resumed) { // what was there may be longer
			return err
		}
	}
	return p.out.Truncate(p.size)
}
