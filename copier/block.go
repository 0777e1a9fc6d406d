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

// pair is a file of the source and its copy, both open.
type pair struct {
	path    string // below the shard
	in, out *sys.File
	dev     uint64 // device of in
	size    int64
	sparse  bool
	again   bool   // a small file is made once more: not as another clone of the same
	ready   []byte // the contents of a small file that are read already, to a whole page; else nil

	engine   Engine      // as chosen
	why      string      // it was
	noRange  atomic.Bool // copy_file_range was refused for this file
	ranged   atomic.Bool // copy_file_range has copied something of it
	noDirect atomic.Bool // a direct write was refused
}

// did is the engine that moved the file's data in the end, and why.
func (p *pair) did() (engine Engine, why string) {
	switch {
	case p.engine == Range && p.noRange.Load():
		return Buffered, "copy_file_range does not work here"
	case p.engine == Direct && p.noDirect.Load():
		return Buffered, "O_DIRECT was taken, and a direct write refused"
	}
	return p.engine, p.why
}

func (p *pair) take(engine Engine, why string) { p.engine, p.why = engine, why }

// span is a range of bytes within a block, [from, to).
type span struct{ from, to int }

// copyBlock copies block i of the file through buf and returns the sum of what
// the source has there. again says that something else is in the copy already,
// also where the source has holes.
func (c *copying) copyBlock(ctx context.Context, p *pair, i int64, buf []byte, again bool) (sum uint64, err error) {
	start := c.now()
	off, n := i*tree.BlockSize, tree.BlockLen(p.size, i)
	data := []span{{0, n}}
	if p.sparse {
		data, err = c.fillSparse(p, buf, off, n)
	} else if p.ready == nil {
		err = c.fill(p, buf, off, span{0, n})
	}
	if err != nil {
		return 0, err
	}
	if ctx.Err() != nil { // the source may have taken its time
		return 0, context.Cause(ctx)
	}
	if again && p.sparse {
		punched, err := p.out.Punch(off, int64(n))
		if err != nil {
			return 0, err
		}
		if !punched {
			data = []span{{0, n}}
		}
	}
	put := c.put
	if again {
		put = c.write // also over a clone
	}
	for _, s := range data {
		if err := put(p, buf, off, s); err != nil {
			return 0, err
		}
	}
	sum = xxhash.Sum64(buf[:n])
	if c.Timer != nil {
		c.Timer.Block(time.Since(start))
	}
	return sum, nil
}

// fill reads the span of the block at off from the source.
func (c *copying) fill(p *pair, buf []byte, off int64, s span) error {
	want := s.to - s.from
	into, direct := buf[s.from:s.to], p.in.Direct.Load()
	if direct {
		into = buf[s.from:min(alignUp(s.to), len(buf))]
	}
	n, err := p.in.ReadAt(into, want, off+int64(s.from))
	if sys.Is(err, unix.EINVAL) && direct { // O_DIRECT was taken but is not done
		if err := p.in.SetDirect(false); err != nil {
			return err
		}
		n, err = p.in.ReadAt(into, want, off+int64(s.from))
	}
	if err != nil {
		return err
	}
	if n < want {
		return changed(p.path, fmt.Sprintf("it ends at byte %d, was %d bytes long", off+int64(s.from+n), p.size))
	}
	return nil
}

// fillSparse reads what the source has of data in n bytes at off, widened to
// whole pages, makes the rest zero, and returns where the data is.
func (c *copying) fillSparse(p *pair, buf []byte, off int64, n int) (data []span, err error) {
	done := 0
	for done < n {
		start, end, ok, err := p.in.Data(off + int64(done))
		if err != nil {
			return nil, err
		}
		if !ok || start >= off+int64(n) {
			break
		}
		s := span{int(max(start-off, 0)) &^ (sys.Align - 1), min(alignUp(int(min(end-off, int64(n)))), n)}
		s.from = max(s.from, done)
		clear(buf[done:s.from])
		if err := c.fill(p, buf, off, s); err != nil {
			return nil, err
		}
		data = append(data, s)
		done = s.to
	}
	clear(buf[done:n])
	return data, nil
}

func alignUp(n int) int { return (n + sys.Align - 1) &^ (sys.Align - 1) }

// put brings the span of the block at off into the copy, the way of the file's
// engine.
func (c *copying) put(p *pair, buf []byte, off int64, s span) error {
	switch {
	case p.engine == Clone:
		return nil
	case p.engine == Range && !p.noRange.Load():
		done, err := c.putRange(p, off+int64(s.from), s.to-s.from)
		if err != nil {
			return err
		}
		s.from += done
	}
	return c.write(p, buf, off, s)
}

// write writes the span of the block at off into the copy.
func (c *copying) write(p *pair, buf []byte, off int64, s span) error {
	if s.from == s.to {
		return nil
	}
	if p.out.Direct.Load() {
		return c.putDirect(p, buf, off, s)
	}
	return p.out.WriteAt(buf[s.from:s.to], off+int64(s.from))
}
