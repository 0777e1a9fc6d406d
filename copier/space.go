package copier

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/tree"
)

// SpaceError reports that a copy does not fit on its file system.
type SpaceError struct {
	Path                   string // of the state dir
	Need, Free             int64  // bytes
	NeedInodes, FreeInodes int64
}

func (e *SpaceError) Error() string {
	if e.Need > e.Free {
		return fmt.Sprintf("not enough space at %s: the copy needs %d bytes, %d are free", e.Path, e.Need, e.Free)
	}
	return fmt.Sprintf("not enough inodes at %s: the copy needs %d, %d are free", e.Path, e.NeedInodes, e.FreeInodes)
}

// The space that each entry and each slot of the plan takes in the records of the state
// dir (manifest, sums, plan and journal), in bytes.
const (
	recordsPerEntry = 512
	recordsPerSlot  = 24
)

// CheckSpace compares the space that the plan needs with the free space of the stage's
// file system, before anything is written. The data that a resumed stage has already is
// subtracted. Files that can be cloned need no space for their data. The error is a
// *SpaceError if the copy does not fit.
func (p *Plan) CheckSpace(ctx context.Context, s *Stage, engine Engine) error {
	free, err := s.state.Space()
	if err != nil {
		return err
	}
	need := p.Allocated
	nodes := p.Entries() - p.HardLinks
	if s.clones = p.canClone(ctx, s, engine); s.clones {
		need = 0
	}
	if s.Resumed {
		bytes, entries, err := p.stagedUsage(ctx, s)
		if err != nil {
			return err
		}
		need, nodes = max(need-bytes, 0), max(nodes-entries, 0)
	}
	need += p.Dirs*fsBlockSize + p.Entries()*recordsPerEntry + p.slots*recordsPerSlot
	if need <= free.Free && (free.Inodes == 0 || nodes <= int64(free.FreeNodes)) {
		return nil
	}
	return &SpaceError{Path: s.state.Path(), Need: need, Free: free.Free, NeedInodes: nodes, FreeInodes: int64(free.FreeNodes)}
}

// stagedUsage returns the bytes and the files that a resumed stage holds already.
func (p *Plan) stagedUsage(ctx context.Context, s *Stage) (bytes, entries int64, err error) {
	match := func(it *PlanEntry) bool { return it.Kind == tree.Regular }
	err = p.eachBatch(ctx, match, func(b *batch) error {
		d, err := s.openDir(b.path)
		if sys.IsErrno(err, unix.ENOENT, unix.ENOTDIR, unix.ELOOP) {
			return nil
		}
		if err != nil {
			return err
		}
		defer d.Close()
		for i := range b.entries {
			it := &b.entries[i]
			stat, err := d.StatAt(s.nameOf(it.Name))
			if err != nil {
				continue // the file is not in the stage yet
			}
			entries++
			bytes += min(stat.Blocks*512, allocatedSize(&it.Record))
		}
		return nil
	})
	return bytes, entries, err
}

// canClone reports whether the first file that has data can be cloned into the state dir.
func (p *Plan) canClone(ctx context.Context, s *Stage, engine Engine) bool {
	if engine == Range || engine == Direct || engine == Buffered {
		return false
	}
	possible := false
	match := func(it *PlanEntry) bool { return it.Kind == tree.Regular && it.Size > 0 }
	stop := errors.New("one is enough")
	err := p.eachBatch(ctx, match, func(b *batch) error {
		possible = p.tryClone(s, b) == nil
		return stop
	})
	return err == stop && possible
}

// tryClone clones the first file of a batch into a probe file, which it removes.
func (p *Plan) tryClone(s *Stage, b *batch) error {
	from, err := p.src.openDir(b.path)
	if err != nil {
		return err
	}
	defer from.Close()
	in, err := from.OpenAt(p.src.nameOf(b.entries[0].Name), unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer in.Close()
	defer removeProbes(s.state)
	removeProbes(s.state)
	out, err := s.state.OpenAt(probeFile, createNew, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = out.Close() }() // the contents of a probe do not matter
	return out.CloneFrom(in)
}
