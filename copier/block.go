package copier

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"
	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/tree"
)

// filePair is a file of the source and its copy, both open.
type filePair struct {
	path     string // below the shard
	in, out  *sys.File
	dev      uint64 // device of in
	size     int64
	sparse   bool
	again    bool   // a small file is copied a second time: it must not be cloned, and is synced at once
	contents []byte // of a small file that has been read, padded to whole pages; otherwise nil

	engine   Engine      // as chosen
	reason   string      // for the choice
	noRange  atomic.Bool // copy_file_range was refused for this file
	ranged   atomic.Bool // copy_file_range has copied a part of this file
	noDirect atomic.Bool // a direct write was refused
}

// engineUsed returns the engine that moved the data of the file in the end, and the
// reason for it.
func (p *filePair) engineUsed() (engine Engine, reason string) {
	switch {
	case p.engine == Range && p.noRange.Load():
		return Buffered, "copy_file_range does not work here"
	case p.engine == Direct && p.noDirect.Load():
		return Buffered, "the SSD's file system refused a direct write"
	}
	return p.engine, p.reason
}

func (p *filePair) setEngine(engine Engine, reason string) { p.engine, p.reason = engine, reason }

// span is a range of bytes within a block, [from, to).
type span struct{ from, to int }

// writeMode says how copyBlock writes a block.
type writeMode int

const (
	// byEngine: with the engine of the file, to a place where the copy has no data yet.
	byEngine writeMode = iota
	// overwrite: with plain writes, over the data of the copy, even if that is a clone.
	// Holes of the source become holes of the copy again.
	overwrite
)

// copyBlock copies block i of the file through buf, and returns the sum of the block in
// the source.
func (c *copyRun) copyBlock(ctx context.Context, p *filePair, i int64, buf []byte, mode writeMode) (sum uint64, err error) {
	start := c.timerStart()
	off, n := i*tree.BlockSize, tree.BlockLen(p.size, i)
	data := []span{{0, n}}
	if p.sparse {
		data, err = c.readSparse(p, buf, off, n)
	} else if p.contents == nil {
		err = c.readSpan(p, buf, off, span{0, n})
	}
	if err != nil {
		return 0, err
	}
	if ctx.Err() != nil { // the read may have taken long
		return 0, context.Cause(ctx)
	}
	write := c.writeByEngine
	if mode == overwrite {
		write = c.writeSpan
	}
	if mode == overwrite && p.sparse {
		punched, err := p.out.PunchHole(off, int64(n))
		if err != nil {
			return 0, err
		}
		if !punched {
			data = []span{{0, n}}
		}
	}
	for _, s := range data {
		if err := write(p, buf, off, s); err != nil {
			return 0, err
		}
	}
	sum = xxhash.Sum64(buf[:n])
	if c.Timer != nil {
		c.Timer.Block(time.Since(start))
	}
	return sum, nil
}

// readSpan reads the span of the block at off from the source.
func (c *copyRun) readSpan(p *filePair, buf []byte, off int64, s span) error {
	want := s.to - s.from
	into, direct := buf[s.from:s.to], p.in.Direct.Load()
	if direct {
		into = buf[s.from:min(alignUp(s.to), len(buf))]
	}
	n, err := p.in.ReadAt(into, want, off+int64(s.from))
	if sys.IsErrno(err, unix.EINVAL) && direct { // open accepted O_DIRECT, but the read did not
		if err := p.in.ClearDirect(); err != nil {
			return err
		}
		n, err = p.in.ReadAt(into, want, off+int64(s.from))
	}
	if err != nil {
		return err
	}
	if n < want {
		return sourceChanged(p.path, fmt.Sprintf("it ends at byte %d, was %d bytes long", off+int64(s.from+n), p.size))
	}
	return nil
}

// readSparse reads the data that the source has in the n bytes at off, widened to whole
// pages, and sets the rest of the buffer to zero. It returns the spans that hold data.
func (c *copyRun) readSparse(p *filePair, buf []byte, off int64, n int) (data []span, err error) {
	done := 0
	for done < n {
		start, end, ok, err := p.in.NextData(off + int64(done))
		if err != nil {
			return nil, err
		}
		if !ok || start >= off+int64(n) {
			break
		}
		s := span{int(max(start-off, 0)) &^ (sys.Align - 1), min(alignUp(int(min(end-off, int64(n)))), n)}
		s.from = max(s.from, done)
		clear(buf[done:s.from])
		if err := c.readSpan(p, buf, off, s); err != nil {
			return nil, err
		}
		data = append(data, s)
		done = s.to
	}
	clear(buf[done:n])
	return data, nil
}

func alignUp(n int) int { return (n + sys.Align - 1) &^ (sys.Align - 1) }

// writeByEngine brings the span of the block at off into the copy with the engine of the
// file.
func (c *copyRun) writeByEngine(p *filePair, buf []byte, off int64, s span) error {
	switch {
	case p.engine == Clone:
		return nil
	case p.engine == Range && !p.noRange.Load():
		done, err := c.copyRange(p, off+int64(s.from), s.to-s.from)
		if err != nil {
			return err
		}
		s.from += done
	}
	return c.writeSpan(p, buf, off, s)
}

// writeSpan writes the span of the block at off from buf into the copy.
func (c *copyRun) writeSpan(p *filePair, buf []byte, off int64, s span) error {
	if s.from == s.to {
		return nil
	}
	if p.out.Direct.Load() {
		return c.writeDirect(p, buf, off, s)
	}
	return p.out.WriteAt(buf[s.from:s.to], off+int64(s.from))
}
