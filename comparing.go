package shardtossd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync/atomic"

	"shard_to_ssd/copier"
	"shard_to_ssd/internal/errs"
	"shard_to_ssd/internal/humanize"
	"shard_to_ssd/verify"
)

// comparing is an operation that compares a tree with a manifest or a list.
type comparing struct {
	*operation
	checker *verify.Checker
	found   verify.DifferenceList
	totals  Comparison       // without the differences
	source  SourceComparison // of the source, if it was compared
}

// result returns what was compared, with the differences.
func (c *comparing) result() Comparison {
	c.totals.Differences, c.totals.DifferenceCount = c.found.Kept, c.found.Count
	return c.totals
}

// readCounter counts how much of one shard has been read, and passes progress on.
type readCounter struct {
	copier.Observer
	files, bytes atomic.Int64
}

// ReadBack counts bytes.
func (c *readCounter) ReadBack(bytes int64) {
	c.bytes.Add(bytes)
	c.Observer.ReadBack(bytes)
}

// FileDone counts a file.
func (c *readCounter) FileDone() {
	c.files.Add(1)
	c.Observer.FileDone()
}

// compareSource compares the source with the manifest of the shard that was copied from
// it, in the way in which the shard is compared: everything is read, past the page cache.
// A source that does not exist, or has changed, is not damage of the shard.
func (c *comparing) compareSource(ctx context.Context, path string, m *verify.Manifest) error {
	source, err := c.openSourceTree(path)
	if errors.Is(err, fs.ErrNotExist) {
		c.source.SourceState = SourceAbsent
		c.warn("shard %s was not compared with its source, which does not exist: %v", c.shard.Name, err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("compare with the source: %w", err)
	}
	defer source.close()
	c.warnOfOtherSource(m, source)
	sides := verify.NewSideJoiner(&c.found)
	_, err = c.checker.Compare(ctx, verify.Comparison{Manifest: m, Shard: source.tree, Progress: c.Observer, Report: verify.IgnoreOwners(sides.AddSource)})
	c.source.SourceDifferences = sides.FromSource
	if err != nil {
		return fmt.Errorf("compare with the source %q: %w", source.path, err)
	}
	if sides.FromSource == 0 {
		c.source.SourceState = SourceSame
		c.info("Source %q is the same as when shard %s was published", source.path, c.shard.Name)
		return nil
	}
	c.source.SourceState = SourceChanged
	c.warn("source %q has changed in %s since shard %s was published", source.path, humanize.Count(sides.FromSource, "place"), c.shard.Name)
	return nil
}

// unlessGone replaces an error by a plainer one if the shard that was being compared is
// no longer published. The differences say nothing then.
func (c *comparing) unlessGone(m *verify.Manifest, err error) error {
	now, statErr := c.shard.Stat()
	if statErr != nil {
		return errs.Join(err, statErr)
	}
	if now != nil && m.BoundTo(now) {
		return err
	}
	c.found, c.source.SourceDifferences = verify.DifferenceList{}, 0
	return c.errGone()
}

func (op *operation) errGone() error {
	return errs.WithKind(fmt.Errorf("shard %s was removed or replaced while it was verified: nothing is known about the new one", op.shard.Name), ErrGone)
}
