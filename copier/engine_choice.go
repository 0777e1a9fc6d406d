package copier

import "fmt"

// prepareCopy chooses the engine of a file, and gives the copy its length.
func (c *copyRun) prepareCopy(p *filePair) error {
	if (c.Engine == Auto || c.Engine == Clone) && !p.again {
		cloned, err := c.cloneFile(p)
		if cloned || err != nil {
			return err
		}
	}
	if err := c.chooseEngine(p); err != nil {
		return err
	}
	return c.reserveSpace(p)
}

// chooseEngine sets the forced engine, or for auto the best engine that the two
// descriptors allow. If an engine does not work for a file, the next one takes over,
// even when the engine was forced: a hook must not fail because of a wrong guess.
func (c *copyRun) chooseEngine(p *filePair) error {
	if c.Engine == Range && !c.noRange.Load() {
		return p.useRange("as told")
	}
	if !p.out.Direct.Load() {
		p.out.DontCache.Store(p.size >= directFrom)
		p.setEngine(Buffered, c.bufferedReason(p))
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
			return p.useRange("a server copies within itself")
		}
	}
	if err := dropDirect(p.out, &out); err != nil {
		return err
	}
	if p.out.Direct.Load() {
		p.setEngine(Direct, "the SSD's file system takes O_DIRECT")
		return nil
	}
	p.out.DontCache.Store(true)
	p.setEngine(Buffered, "the SSD's file system cannot do O_DIRECT in blocks of 4096 bytes")
	return nil
}

func (c *copyRun) bufferedReason(p *filePair) string {
	switch {
	case c.Engine == Buffered:
		return "as told"
	case p.size < directFrom:
		return fmt.Sprintf("shorter than %d bytes", directFrom)
	}
	return "the SSD's file system refuses O_DIRECT"
}

// reserveSpace gives the copy its length, and allocates its space unless the source is
// sparse. The length does not prove that the data is there. It is set before the data,
// because XFS serialises direct writes that extend a file. A short file in the page
// cache needs neither.
func (c *copyRun) reserveSpace(p *filePair) error {
	if p.size == 0 || (p.engine == Buffered && p.size < directFrom && !p.sparse) {
		return nil
	}
	if !p.sparse {
		supported, err := p.out.Allocate(p.size)
		if err != nil || (supported && !c.stage.Resumed) { // a file of an interrupted copy may be longer
			return err
		}
	}
	return p.out.Truncate(p.size)
}
