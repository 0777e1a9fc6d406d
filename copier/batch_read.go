package copier

import (
	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/tree"
)

// One system call reads many small files of the source, past the page cache. Files
// that lie side by side on a disk become few requests, and one thread waits for all
// of them. On two CPUs this saved a fifth of the time of a copy
// (docs/how-it-is-fast.md). A file that is in the page cache, or is sparse, or cannot
// be read in this way, is read alone.

// readGroup is a run of entries of a batch. Their files are open, and most of them
// have been read.
type readGroup struct {
	entries []PlanEntry
	pairs   []*filePair // by entry; nil if the file is not open
}

// openGroup opens and reads as many of the entries as fit into the worker's buffer,
// at least one. The caller must close the files of the group, even after an error.
func (b *batchCopier) openGroup(entries []PlanEntry) (g readGroup, err error) {
	reader := b.batchReader()
	if reader == nil {
		return readGroup{entries[:1], make([]*filePair, 1)}, nil
	}
	used, reads, read := 0, []sys.BatchRead(nil), []*filePair(nil)
	for i := 0; i < min(len(entries), reader.Size()); i++ {
		it := &entries[i]
		if used+alignUp(int(it.Size)) > len(b.worker.Buf) && i > 0 {
			break
		}
		p, err := b.run.openForBatchRead(b.dirs.src, it)
		if sys.IsErrno(err, unix.EMFILE, unix.ENFILE) && i > 0 {
			break // the process has no descriptors for more
		}
		g.pairs = append(g.pairs, p)
		if err != nil {
			return g, err
		}
		if p != nil && p.in.Direct.Load() && it.Size > 0 {
			end := used + alignUp(int(it.Size))
			reads, read = append(reads, sys.BatchRead{File: p.in, Buf: b.worker.Buf[used:end:end]}), append(read, p)
			used = end
		}
	}
	g.entries = entries[:len(g.pairs)]
	if err := reader.Read(reads); err != nil {
		return g, err
	}
	return g, b.run.assignContents(reads, read)
}

// batchReader returns the worker's reader of many files, or nil if each file has to
// be read alone.
func (b *batchCopier) batchReader() *sys.Batch {
	c := b.run
	if c.stage.Resumed || c.Engine == Buffered || c.Engine == Range || c.RateLimit != nil || c.noBatchRead.Load() {
		return nil
	}
	return b.worker.Batch()
}

// openForBatchRead opens a file of the source. It returns nil for an entry that is
// not a regular file, and for a sparse file.
func (c *copyRun) openForBatchRead(src *sys.File, it *PlanEntry) (*filePair, error) {
	if it.Kind != tree.Regular || it.IsSparse() {
		return nil, nil
	}
	p, err := c.openSmall(src, it, unix.O_DIRECT)
	if err != nil {
		return nil, err
	}
	if cached, err := p.in.CachedBytes(0, p.size); err == nil && cached == 0 {
		return p, nil
	}
	// The file is in the page cache, or the kernel does not report it.
	if err := p.in.ClearDirect(); err != nil {
		p.in.Close()
		return nil, err
	}
	p.in.DontCache.Store(!c.noDontCache.Load())
	return p, nil
}

// assignContents gives each file the contents that were read of it. Some file systems
// (btrfs) send direct reads through the page cache. In that case the run stops reading
// files in batches.
func (c *copyRun) assignContents(reads []sys.BatchRead, pairs []*filePair) error {
	for i, r := range reads {
		p := pairs[i]
		if r.Err != nil {
			return r.Err
		}
		if int64(r.N) >= p.size {
			p.contents = r.Buf
		}
	}
	for _, p := range pairs {
		// Nothing of the file was cached before. If only a part is cached now, another
		// process has read it.
		if cached, err := p.in.CachedBytes(0, p.size); err != nil || cached < p.size {
			continue
		}
		c.noBatchRead.Store(true)
		if err := p.in.DropCached(0, 0); err != nil {
			return err
		}
	}
	return nil
}

// closeFiles closes the files that are still open.
func (g *readGroup) closeFiles() {
	for i := range g.pairs {
		g.closeFile(i)
	}
}

func (g *readGroup) closeFile(i int) {
	if p := g.pairs[i]; p != nil {
		p.in.Close()
		g.pairs[i] = nil
	}
}

// copyOrder returns the indexes of the entries in the order of copying: first the
// files that have been read. Their contents are in the worker's buffer, which the
// other files need next.
func (g *readGroup) copyOrder() (order []int) {
	var rest []int
	for i, p := range g.pairs {
		if p != nil && p.contents != nil {
			order = append(order, i)
		} else {
			rest = append(rest, i)
		}
	}
	return append(order, rest...)
}
