package copier

import (
	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/pool"
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/tree"
)

// Small files of the source are read some at once, past the page cache: files that lie
// beside each other on a disk become few requests, and one thread waits for all of
// them. On two CPUs that was a fifth of the time of a copy (docs/how-it-is-fast.md).
// What is in the page cache, is sparse, or cannot be read like this, is read as before.

// some is a run of entries of a batch, of which the files are open, and most of them
// read.
type some struct {
	entries []Item
	pairs   []*pair // of each entry, nil: not open
}

// readAhead opens and reads some of the entries, at least one, as many as fit into the
// worker's buffer. They must be closed, also after an error.
func (c *copying) readAhead(src *sys.File, entries []Item, w *pool.Worker) (s some, err error) {
	one := some{entries[:1], make([]*pair, 1)}
	if c.stage.Resumed || c.Engine == Buffered || c.Engine == Range || c.Pace != nil || c.noAhead.Load() {
		return one, nil
	}
	at := w.Batch()
	if at == nil {
		return one, nil
	}
	used, reads, read := 0, []sys.Read(nil), []*pair(nil)
	for i := 0; i < min(len(entries), at.Size()); i++ {
		it := &entries[i]
		if used+alignUp(int(it.Size)) > len(w.Buf) && i > 0 {
			break
		}
		p, err := c.openAhead(src, it)
		if sys.Is(err, unix.EMFILE, unix.ENFILE) && i > 0 {
			break // so many are enough
		}
		s.pairs = append(s.pairs, p)
		if err != nil {
			return s, err
		}
		if p != nil && p.in.Direct.Load() && it.Size > 0 {
			end := used + alignUp(int(it.Size))
			reads, read = append(reads, sys.Read{File: p.in, Buf: w.Buf[used:end:end]}), append(read, p)
			used = end
		}
	}
	s.entries = entries[:len(s.pairs)]
	if err := at.Read(reads); err != nil {
		return s, err
	}
	return s, c.take(reads, read)
}

// openAhead opens a file, nil if it is none or better read by itself.
func (c *copying) openAhead(src *sys.File, it *Item) (*pair, error) {
	if it.Kind != tree.Regular || it.Sparse() {
		return nil, nil
	}
	p, err := c.openSmall(src, it, true)
	if err != nil {
		return nil, err
	}
	if cached, err := p.in.Cached(0, p.size); err == nil && cached == 0 {
		return p, nil
	}
	if err := p.in.SetDirect(false); err != nil { // cached, or it cannot be told
		p.in.Close() //nolint:errcheck // opened for reading
		return nil, err
	}
	p.in.DontCache.Store(!c.noUncache.Load())
	return p, nil
}

// take gives each file what was read of it. Some file systems read through the page
// cache all the same (btrfs): then nothing more is read like this.
func (c *copying) take(reads []sys.Read, of []*pair) error {
	for i, r := range reads {
		p := of[i]
		if r.Err != nil {
			return r.Err
		}
		if int64(r.N) >= p.size {
			p.ready = r.Buf
		}
	}
	for _, p := range of { // nothing of it was cached before, and a part would be others'
		if cached, err := p.in.Cached(0, p.size); err != nil || cached < p.size {
			continue
		}
		c.noAhead.Store(true)
		if err := p.in.Forget(0, 0); err != nil {
			return err
		}
	}
	return nil
}

// close closes what is still open.
func (s *some) close() {
	for i := range s.pairs {
		s.closeOne(i)
	}
}

func (s *some) closeOne(i int) {
	if p := s.pairs[i]; p != nil {
		p.in.Close() //nolint:errcheck // opened for reading
		s.pairs[i] = nil
	}
}

// inOrder are the numbers of the entries: first those that are read, while their
// contents are in the buffer, which the others need as well.
func (s *some) inOrder() (order []int) {
	var rest []int
	for i, p := range s.pairs {
		if p != nil && p.ready != nil {
			order = append(order, i)
		} else {
			rest = append(rest, i)
		}
	}
	return append(order, rest...)
}
