package shardtossd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"shard_to_ssd/copier"
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/verify"
)

// The source is compared with the manifest of what was copied from it as the
// published shard is, by the checker: read in full, past the page cache.

// againstSource is the second half of Verify with Source: is the source what was
// published? A source that is not there, or has changed, is nothing that the shard
// could do for.
func (op *operation) againstSource(ctx context.Context, m *verify.Manifest) error {
	source, path, err := op.sourceOf(m)
	if errors.Is(err, fs.ErrNotExist) {
		op.result.SourceState = SourceAbsent
		op.warn("shard %s was not compared with its source, which is not there: %v", op.name, err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("compare with the source: %w", err)
	}
	defer source.In.Close() //nolint:errcheck // opened for reading
	sides := op.bySide()
	if _, err := op.contentsOf(ctx, m, source, op.Observer, sides.add); err != nil {
		return fmt.Errorf("compare with the source %q: %w", path, err)
	}
	if op.result.SourceDifferences == 0 {
		op.result.SourceState = SourceSame
		op.info("The source %q is what was published as shard %s", path, op.name)
		return nil
	}
	op.result.SourceState = SourceChanged
	op.warn("the source %q is not what was published as shard %s: it has changed in %d places since", path, op.name, op.result.SourceDifferences)
	return nil
}

// sourceOf opens the source for the checker, at its real path. In must be closed.
// That the shard was copied from elsewhere is said.
func (op *operation) sourceOf(m *verify.Manifest) (s verify.Shard, path string, err error) {
	if path, err = sys.RealPath(op.Shard); err != nil {
		return s, op.Shard, err
	}
	src, err := op.openSource()
	if err != nil {
		return s, path, err
	}
	if err = src.Close(); err != nil {
		return s, path, err
	}
	if m != nil && m.Source != path {
		op.warn("shard %s was copied from %q, and is compared with %q", op.name, m.Source, path)
	}
	s.Name = filepath.Base(path)
	s.In, err = sys.OpenDir(filepath.Dir(path))
	return s, path, err
}

// contentsOf compares all of a tree, or what of it shard.Only says, with a manifest.
func (op *operation) contentsOf(ctx context.Context, m *verify.Manifest, shard verify.Shard, progress verify.Progress, report func(verify.Difference)) (*verify.Medium, error) {
	r := newReader(ctx, op)
	defer r.close()
	return r.contents(ctx, m, shard, progress, report)
}

// ofSource drops of the source's differences those that say nothing of it: who
// cannot give files away owns the copy.
func ofSource(report func(verify.Difference)) func(verify.Difference) {
	asRoot := os.Geteuid() == 0
	return func(d verify.Difference) {
		if d.Kind != verify.Owner || asRoot {
			report(d)
		}
	}
}

// sides joins the differences of the SSD, which are known already, with those of the
// source.
type sides struct {
	op *operation
	at map[place]int // of the differences that are kept
}

// place is where, and in what, something differs.
type place struct {
	path string
	kind verify.Kind
}

// bySide marks what was found on the SSD.
func (op *operation) bySide() *sides {
	s := &sides{op, map[place]int{}}
	for i := range op.result.Differences {
		d := &op.result.Differences[i]
		d.Side = verify.OnSSD
		s.at[place{d.Path, d.Kind}] = i
	}
	return s
}

// add takes a difference between the source and the manifest. Both having changed in
// the same place is one difference, whose ranges are the SSD's.
func (s *sides) add(d verify.Difference) {
	ofSource(func(d verify.Difference) {
		s.op.result.SourceDifferences++
		i, both := s.at[place{d.Path, d.Kind}]
		if !both {
			d.Side = verify.InSource
			s.op.differs(d)
			return
		}
		on := &s.op.result.Differences[i]
		on.Side = verify.OnBoth
		if d.Detail != "" {
			on.Detail += "; in the source " + d.Detail
		}
	})(d)
}

// sourceMatches compares what of the source is needed with the manifest. What
// differs is an error that names it.
func (op *operation) sourceMatches(ctx context.Context, m *verify.Manifest, need *mending) error {
	if need.copied.Len()+need.inPlace.Len() == 0 {
		return nil
	}
	source, path, err := op.sourceOf(m)
	if errors.Is(err, fs.ErrNotExist) {
		op.result.SourceState = SourceAbsent
	}
	if err != nil {
		return fmt.Errorf("shard %s is damaged, and cannot be repaired without its source: %w; nothing was changed", op.name, err)
	}
	defer source.In.Close() //nolint:errcheck // opened for reading
	var found firstOf
	sides := op.bySide()
	tell := ofSource(func(d verify.Difference) {
		if need.matters(d) {
			found.add(d)
			sides.add(d)
		}
	})
	source.Only = need.copied
	if _, err = op.contentsOf(ctx, m, source, copier.Nobody{}, tell); err == nil {
		source.Only = need.inPlace
		err = verify.CompareTree(ctx, m, source, tell)
	}
	switch {
	case err != nil:
		return fmt.Errorf("compare with the source %q: %w; nothing was changed", path, err)
	case found.count == 0:
		op.result.SourceState = SourceSame
		return nil
	}
	op.result.SourceState = SourceChanged
	return fmt.Errorf("shard %s is damaged, and cannot be repaired: the source %q is not any more what the manifest says, it differs in %v; nothing was changed",
		op.name, path, &found)
}
