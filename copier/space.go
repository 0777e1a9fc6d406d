package copier

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/tree"
)

// SpaceError says that a copy does not fit.
type SpaceError struct {
	Path                  string
	Need, Free            int64 // bytes
	NeedInodes, FreeNodes int64
}

func (e *SpaceError) Error() string {
	if e.Need > e.Free {
		return fmt.Sprintf("not enough space at %s: the copy needs %d bytes, %d are free", e.Path, e.Need, e.Free)
	}
	return fmt.Sprintf("not enough inodes at %s: the copy needs %d, %d are free", e.Path, e.NeedInodes, e.FreeNodes)
}

// CheckSpace compares what the plan needs with what is free on the stage's file
// system, before anything is written. What the stage has already counts, and
// where the files can be cloned their data takes no space. The error is a
// *SpaceError if it does not fit.
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
		bytes, entries, err := p.staged(ctx, s)
		if err != nil {
			return err
		}
		need, nodes = max(need-bytes, 0), max(nodes-entries, 0)
	}
	// A block for each directory; manifest, sums, plan and journal take some
	// hundred bytes an entry.
	need += p.Dirs*fsBlock + p.Entries()*512 + p.slots*24
	e := &SpaceError{Path: s.state.Path(), Need: need, Free: free.Free, NeedInodes: nodes, FreeNodes: int64(free.FreeNodes)}
	if need > free.Free || (free.Inodes > 0 && e.NeedInodes > e.FreeNodes) {
		return e
	}
	return nil
}

// staged is what the stage of an interrupted copy takes already.
func (p *Plan) staged(ctx context.Context, s *Stage) (bytes, entries int64, err error) {
	isFile := func(it *Item) bool { return it.Kind == tree.Regular }
	err = p.batches(ctx, isFile, func(b *batch) error {
		d, err := s.open(b.path)
		if sys.Is(err, unix.ENOENT, unix.ENOTDIR, unix.ELOOP) {
			return nil
		}
		if err != nil {
			return err
		}
		defer d.Close() //nolint:errcheck // opened for reading
		for i := range b.entries {
			it := &b.entries[i]
			st, err := d.StatAt(s.name(it.Name))
			if err == nil {
				entries++
				bytes += min(st.Blocks*512, allocated(&it.Record))
			}
		}
		return nil
	})
	return bytes, entries, err
}

// canClone tries whether the first file with data can be cloned into the state
// dir.
func (p *Plan) canClone(ctx context.Context, s *Stage, engine Engine) bool {
	if engine == Range || engine == Direct || engine == Buffered {
		return false
	}
	possible := false
	hasData := func(it *Item) bool { return it.Kind == tree.Regular && it.Size > 0 }
	stop := fmt.Errorf("one is enough")
	err := p.batches(ctx, hasData, func(b *batch) error {
		possible = p.tryClone(s, b) == nil
		return stop
	})
	return err == stop && possible
}

func (p *Plan) tryClone(s *Stage, b *batch) error {
	from, err := p.src.open(b.path)
	if err != nil {
		return err
	}
	defer from.Close() //nolint:errcheck // opened for reading
	in, err := from.OpenAt(p.src.name(b.entries[0].Name), unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // opened for reading
	defer removeProbes(s.state)
	removeProbes(s.state)
	out, err := s.state.OpenAt(probeFile, createNew, 0o600)
	if err != nil {
		return err
	}
	defer out.Close() //nolint:errcheck // a probe
	return out.Clone(in)
}
