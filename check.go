package shardtossd

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"shard_to_ssd/copier"
	"shard_to_ssd/internal/humanize"
	"shard_to_ssd/internal/pool"
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/verify"
)

// check holds the files of any directory against a list of sums, that xxhsum or this
// program has made. It knows no users, takes no lock and writes nothing. A line that
// says nothing of any file is an error in the end, as for xxhsum --strict: the file
// that it may have been about was not looked at.
func check(ctx context.Context, o Options) (*Result, error) {
	op, err := beginCheck(o)
	if err == nil {
		err = op.check(ctx)
	}
	return op.end(err)
}

func beginCheck(o Options) (*operation, error) {
	op := &operation{Options: o, started: time.Now(), result: Result{Operation: opVerify, Dir: o.Shard, Manifest: o.Manifest}}
	if op.Observer == nil {
		op.Observer = copier.Nobody{}
	}
	if err := op.checkNumbers(); err != nil {
		return op, err
	}
	var err error
	if op.ssd, err = sys.OpenDir(o.Shard); err != nil {
		return op, fmt.Errorf("directory to verify: %w", err)
	}
	op.chooseWorkers()
	return op, nil
}

// standardInput is the name of a list that comes that way, and can be read once.
const standardInput = "-"

// listName is how messages name the list.
func (op *operation) listName() string {
	if op.Manifest == standardInput {
		return "standard input"
	}
	return op.Manifest
}

func (op *operation) check(ctx context.Context) error {
	list := &verify.List{Dir: op.ssd, Report: op.differs, Bad: op.badLine}
	lines := verify.NewSumsReader(&input{ctx: ctx, from: op.Stdin})
	if op.Manifest != standardInput {
		f, err := openList(op.Manifest)
		if err != nil {
			return fmt.Errorf("list of sums: %w", err)
		}
		defer f.Close() //nolint:errcheck // opened for reading
		if err := op.planCheck(ctx, list, f); err != nil {
			return op.judge(ctx, list, err)
		}
		lines = verify.NewSumsReader(f.Stream())
	}
	medium, err := op.compareList(ctx, list, lines)
	op.result.Files, op.result.Bytes, op.result.ReadBack = list.Files, list.Bytes, string(medium.Mode())
	return op.judge(ctx, list, err)
}

// openList opens a list that can be read twice: once to find out how much it is about.
func openList(path string) (*sys.File, error) {
	f, err := sys.Open(path, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	s, err := f.Stat()
	if err == nil && !s.IsRegular() {
		err = fmt.Errorf("%s is not a regular file; from a pipe it comes as standard input, with %q for its name", path, standardInput)
	}
	if err != nil {
		f.Close() //nolint:errcheck // opened for reading
		return nil, err
	}
	return f, nil
}

// input is a reader that nobody waits for after ctx has ended.
type input struct {
	ctx  context.Context
	from io.Reader
	buf  []byte // what from reads into: p is the caller's again when ctx has ended
}

func (i *input) Read(p []byte) (int, error) {
	if i.from == nil {
		return 0, io.EOF
	}
	i.buf = slices.Grow(i.buf[:0], len(p))[:len(p)]
	type result struct {
		n   int
		err error
	}
	done := make(chan result, 1)
	go func() {
		n, err := i.from.Read(i.buf)
		done <- result{n, err}
	}()
	select {
	case r := <-done:
		return copy(p, i.buf[:r.n]), r.err
	case <-i.ctx.Done():
		return 0, context.Cause(i.ctx)
	}
}

// planCheck finds out how much there is to be read.
func (op *operation) planCheck(ctx context.Context, list *verify.List, f *sys.File) error {
	if err := list.Plan(ctx, verify.NewSumsReader(f.Stream())); err != nil {
		return err
	}
	op.Observer.Planned(list.Files, list.Bytes)
	return nil
}

func (op *operation) compareList(ctx context.Context, list *verify.List, lines *verify.SumsReader) (*verify.Medium, error) {
	op.result.Jobs = op.Jobs
	medium := &verify.Medium{Pace: pool.NewPace(ctx, op.Bandwidth)}
	workers, err := pool.New(op.Jobs)
	if err != nil {
		return medium, err
	}
	defer workers.Close() //nolint:errcheck // only memory
	return medium, list.Compare(ctx, lines, workers, medium, op.Observer)
}

// maxBadLines is how many lines are named; all are counted.
const maxBadLines = 20

func (op *operation) badLine(b verify.BadLine) {
	op.result.BadLineCount++
	if op.result.BadLineCount > maxBadLines {
		return
	}
	op.result.BadLines = append(op.result.BadLines, b)
	op.warn("%s, %v", op.listName(), &b)
}

// judge says what came out. Damage that was found before something else ended the
// reading is damage.
func (op *operation) judge(ctx context.Context, list *verify.List, err error) error {
	r := &op.result
	said := fmt.Sprintf("%d listed files, %d bytes (%s) were found in %s", list.Files, list.Bytes, humanize.Size(list.Bytes), op.Shard)
	switch {
	case r.DifferenceCount > 0:
		damaged := fmt.Errorf("directory %s is damaged: %d differences from what %s lists", op.Shard, r.DifferenceCount, op.listName())
		if err != nil {
			damaged = fmt.Errorf("%w; and not all was read: %w", damaged, err)
		}
		if bad := op.badLines(); bad != nil {
			damaged = fmt.Errorf("%w; and %w", damaged, bad)
		}
		return &kindError{ErrDamaged, damaged}
	case err != nil:
		return fmt.Errorf("not all was read, and no damage found in what was: %s: %w", said, err)
	case list.Lines == 0:
		return fmt.Errorf("%s has no line that is a sum of XXH64 and a name", op.listName())
	}
	op.countUnlisted(ctx, list)
	if bad := op.badLines(); bad != nil {
		return fmt.Errorf("%s, and are as listed: but %w", said, bad)
	}
	r.Outcome = Verified
	op.info("Directory %s is as listed: %d files, %d bytes (%s) read back: %s; %d files are not listed",
		op.Shard, list.Files, list.Bytes, humanize.Size(list.Bytes), r.ReadBack, r.Unlisted)
	return nil
}

// badLines is the error of a list with lines that are none.
func (op *operation) badLines() error {
	if op.result.BadLineCount == 0 {
		return nil
	}
	return fmt.Errorf("%d lines of %s say nothing of any file", op.result.BadLineCount, op.listName())
}

// countUnlisted counts what the list is not about, for people. The list itself is not
// counted, if it is there.
func (op *operation) countUnlisted(ctx context.Context, list *verify.List) {
	if s, err := sys.StatPath(op.Manifest); err == nil && op.Manifest != standardInput {
		list.Cover(&s)
	}
	var err error
	if op.result.Unlisted, err = list.Unlisted(ctx); err != nil {
		op.warn("the files that are not listed could not be counted: %v", err)
	}
}
