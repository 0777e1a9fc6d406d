package shardtossd

import (
	"context"
	"fmt"

	"shard_to_ssd/internal/errs"
	"shard_to_ssd/internal/humanize"
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/verify"
)

// CheckSums compares the files of any directory with a list of XXH64 checksums that
// xxhsum or this tool has made. It knows no users, takes no lock and writes nothing. A
// line that is no checksum of a file is an error at the end, as with xxhsum --strict:
// the file that it may have named was not read. Errors: ErrUsage, ErrDamaged, the cause
// of ctx, or any other failure.
func CheckSums(ctx context.Context, o CheckSumsOptions) (*CheckSumsResult, error) {
	c := &checking{comparing: comparing{operation: newOperation(Host{Log: o.Log}, o.Work)}, options: o}
	err := c.perform(c.begin, func() error { return c.run(ctx) })
	return &CheckSumsResult{c.summary, c.result(), c.badLines, c.badLineCount, c.unlisted}, err
}

// checking is one call of CheckSums.
type checking struct {
	comparing
	options      CheckSumsOptions
	list         *verify.SumsList
	badLines     []verify.BadLine
	badLineCount int64
	unlisted     int64
}

func (c *checking) begin() (err error) {
	if err := c.checkWork(); err != nil {
		return err
	}
	if c.shard.SSD, err = sys.OpenDir(c.options.Dir); err != nil {
		return fmt.Errorf("directory to verify: %w", err)
	}
	c.chooseWorkers()
	return nil
}

// standardInput is the name of a list that comes on standard input, and can be read
// only once.
const standardInput = "-"

// listName names the list in messages.
func (c *checking) listName() string {
	if c.options.Sums == standardInput {
		return "standard input"
	}
	return c.options.Sums
}

func (c *checking) run(ctx context.Context) error {
	c.checker = verify.NewChecker(ctx, c.Jobs, c.Bandwidth)
	defer c.checker.Close()
	c.list = &verify.SumsList{Dir: c.shard.SSD, Report: c.found.Add, OnBadLine: c.addBadLine}
	if c.options.Sums == standardInput {
		return c.verdict(ctx, c.compareList(ctx, verify.NewCancelableSumsReader(ctx, c.options.Stdin)))
	}
	sums, err := verify.OpenSums(c.options.Sums)
	if err != nil {
		return fmt.Errorf("list of checksums: %w", err)
	}
	defer sums.Close()
	if err := c.list.CountListed(ctx, sums.Lines()); err != nil {
		return c.verdict(ctx, err)
	}
	c.Observer.Planned(c.list.Files, c.list.Bytes)
	return c.verdict(ctx, c.compareList(ctx, sums.Lines()))
}

func (c *checking) compareList(ctx context.Context, lines *verify.SumsReader) (err error) {
	c.summary.Jobs = c.Jobs
	c.totals.ReadBack, err = c.checker.CompareList(ctx, c.list, lines, c.Observer)
	c.totals.Files, c.totals.Bytes = c.list.Files, c.list.Bytes
	return err
}

// maxBadLines is how many bad lines are named; all are counted.
const maxBadLines = 20

func (c *checking) addBadLine(b verify.BadLine) {
	c.badLineCount++
	if c.badLineCount > maxBadLines {
		return
	}
	c.badLines = append(c.badLines, b)
	c.warn("%s, %v", c.listName(), &b)
}

// verdict returns the error of the whole comparison. Damage that was found before
// something else ended the reading is damage.
func (c *checking) verdict(ctx context.Context, err error) error {
	read := fmt.Sprintf("found %s, %s (%s) in %s", humanize.Count(c.list.Files, "listed file"), humanize.Count(c.list.Bytes, "byte"),
		humanize.Size(c.list.Bytes), c.options.Dir)
	switch {
	case c.found.Count > 0:
		return c.damageError(err)
	case err != nil:
		return fmt.Errorf("not everything was read, and no damage found so far: %s: %w", read, err)
	case c.list.Lines == 0:
		return fmt.Errorf("%s has no line with an XXH64 checksum and a name", c.listName())
	}
	c.countUnlisted(ctx)
	if bad := c.badLinesError(); bad != nil {
		return fmt.Errorf("%s, equal to the list; but %w", read, bad)
	}
	c.summary.Outcome = Verified
	c.info("Directory %s is as listed: %s, %s (%s) read back: %s; %s not listed", c.options.Dir, humanize.Count(c.list.Files, "file"),
		humanize.Count(c.list.Bytes, "byte"), humanize.Size(c.list.Bytes), c.totals.ReadBack, humanize.Count(c.unlisted, "file"))
	return nil
}

func (c *checking) damageError(err error) error {
	damage := fmt.Errorf("directory %s is damaged: %s from the list in %s", c.options.Dir, humanize.Count(c.found.Count, "difference"), c.listName())
	if err != nil {
		damage = fmt.Errorf("%w; not everything was read: %w", damage, err)
	}
	if bad := c.badLinesError(); bad != nil {
		damage = fmt.Errorf("%w; %w", damage, bad)
	}
	return errs.WithKind(damage, ErrDamaged)
}

// badLinesError returns an error if the list has bad lines.
func (c *checking) badLinesError() error {
	if c.badLineCount == 0 {
		return nil
	}
	return fmt.Errorf("cannot use %s of %s", humanize.Count(c.badLineCount, "line"), c.listName())
}

// countUnlisted counts files that the list does not name, without the list itself.
func (c *checking) countUnlisted(ctx context.Context) {
	if s, err := sys.StatPath(c.options.Sums); err == nil && c.options.Sums != standardInput {
		c.list.MarkListed(&s)
	}
	var err error
	if c.unlisted, err = c.list.CountUnlisted(ctx); err != nil {
		c.warn("cannot count the files that are not listed: %v", err)
	}
}
