package shardtossd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"shard_to_ssd/copier"
	"shard_to_ssd/internal/humanize"
	"shard_to_ssd/locking"
	"shard_to_ssd/verify"
)

// VerifyAll is Verify of everything that is published under the SSD dir, what was not
// verified for the longest time first, with one pool of workers and one pace. What is
// wrong with one shard keeps it from none of the others: Options.OnShard is told of
// each, and Result.Scrub counts them. The error is ErrDamaged if any is damaged. It is
// no failure that a directory is not this tool's, nor that a shard goes meanwhile.
func VerifyAll(ctx context.Context, o Options) (*Result, error) {
	op, err := begin(o, opVerifyAll)
	if err == nil {
		err = op.scrub(ctx)
	}
	return op.end(err)
}

func (op *operation) scrub(ctx context.Context) error {
	all, err := op.candidates(ctx)
	if err != nil {
		return err
	}
	s := &scrub{operation: op, reader: newReader(ctx, op)}
	defer s.reader.close()
	s.count.Shards, s.count.Left = len(all), len(all)
	op.result.Scrub, op.result.Jobs = &s.count, op.Jobs
	for _, c := range all {
		s.left.add(c.totals)
	}
	s.plan()
	for _, c := range all {
		if ctx.Err() != nil {
			break
		}
		s.verify(ctx, c)
	}
	s.result.Files, s.result.Bytes = s.done.files+s.left.files, s.done.bytes+s.left.bytes
	s.result.ReadBack = string(s.weakest)
	s.say()
	return s.verdict(ctx)
}

// scrub is a verification of all shards under way.
type scrub struct {
	*operation
	reader     *reader
	count      Scrub
	done, left totals // done: of the shards that were begun
	weakest    verify.ReadMode
}

// totals are those of some shards.
type totals struct{ files, bytes int64 }

func (t *totals) add(more totals) { t.files, t.bytes = t.files+more.files, t.bytes+more.bytes }
func (t *totals) sub(less totals) { t.files, t.bytes = t.files-less.files, t.bytes-less.bytes }

// candidate is a shard that may have to be verified.
type candidate struct {
	name  string
	since time.Time // when it was last seen whole, see findings
	totals
}

// candidates are all there are, the longest not verified first.
func (op *operation) candidates(ctx context.Context) (all []candidate, err error) {
	names, err := op.expected()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		all = append(all, op.of(name).candidate())
	}
	slices.SortFunc(all, func(a, b candidate) int {
		return cmp.Or(a.since.Compare(b.since), strings.Compare(a.name, b.name))
	})
	return all, nil
}

// expected are the names in the SSD dir, and those of shards that were published there,
// and have users.
func (op *operation) expected() ([]string, error) {
	names, err := op.publicNames(make([]byte, 64<<10))
	if err != nil {
		return nil, err
	}
	states, err := stateNames(op.ssd)
	for _, name := range states {
		if users, _ := locking.ReadUsers(op.LockDir, name); len(users) > 0 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), err
}

// candidate looks at a shard before its turn. What cannot be seen of it now will be
// told then.
func (op *operation) candidate() candidate {
	c := candidate{name: op.name}
	state, m, err := op.provable()
	if err != nil {
		return c
	}
	defer state.close() //nolint:errcheck // opened for reading
	defer m.Close()     //nolint:errcheck // opened for reading
	found, _ := state.findings(m)
	c.since = found.since()
	if !op.recent(c.since) {
		c.totals = totals{m.Files, m.Bytes}
	}
	return c
}

// of is the operation on one of the shards.
func (op *operation) of(name string) *operation {
	one := &operation{Options: op.Options, name: name, lockDir: op.lockDir, ssd: op.ssd, started: time.Now()}
	one.Observer = planned{op.Observer}
	one.result = Result{Operation: opVerify, Shard: name}
	return one
}

// planned is an Observer that has been told already what there is to do.
type planned struct{ copier.Observer }

// Planned does nothing.
func (planned) Planned(files, bytes int64) {}

// plan tells what there is to do, as far as it is known now.
func (s *scrub) plan() {
	s.Observer.Planned(s.result.FilesRead+s.left.files, s.result.BytesRead+s.left.bytes)
}

// verify has one shard verified, and goes on whatever comes of it.
func (s *scrub) verify(ctx context.Context, c candidate) {
	one := s.of(c.name)
	err := s.tell(ctx, one, one.verify(ctx, s.reader))
	one.complete(err)
	s.left.sub(c.totals)
	r := &one.result
	if r.Outcome != Skipped {
		s.done.add(totals{r.Files, r.Bytes})
	}
	s.result.FilesRead += r.FilesRead
	s.result.BytesRead += r.BytesRead
	s.weakest = verify.Weaker(s.weakest, verify.ReadMode(r.ReadBack))
	s.plan()
	if s.OnShard != nil {
		s.OnShard(r, err)
	}
}

// tell counts what became of a shard, says what is wrong with it, and returns its
// error if it is one of a run over all.
func (s *scrub) tell(ctx context.Context, one *operation, err error) error {
	s.count.Left--
	switch {
	case err == nil && one.result.Outcome == Skipped:
		s.count.Skipped++
	case err == nil:
		s.count.Verified++
	case errors.Is(err, errGone):
		s.count.Gone++
		one.result.Outcome = Gone
	case errors.Is(err, errNotOurs):
		s.count.NotPublished++
		one.result.Outcome = NotPublished
	case errors.Is(err, ErrDamaged):
		s.count.Damaged++
		s.log(Error, "root", "%v", err)
	case ctx.Err() != nil:
		s.count.Left++
	default:
		s.count.Failed++
		s.log(Error, "root", "verify shard %s: %v", one.name, err)
	}
	if one.result.Outcome == "" {
		return err
	}
	if err != nil {
		s.info("%v", err)
	}
	return nil
}

// say sums up.
func (s *scrub) say() {
	n := &s.count
	parts := []string{fmt.Sprintf("%d as published", n.Verified), fmt.Sprintf("%d damaged", n.Damaged), fmt.Sprintf("%d failed", n.Failed)}
	for _, more := range []struct {
		n    int
		what string
	}{
		{n.Skipped, fmt.Sprintf("verified less than %s ago", humanize.Age(s.MaxAge))},
		{n.NotPublished, "not published by this tool"},
		{n.Gone, "gone meanwhile"},
		{n.Left, "not verified to the end"},
	} {
		if more.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", more.n, more.what))
		}
	}
	r, seconds := &s.result, time.Since(s.started).Seconds()
	s.info("Of %d shards in %s: %s. Read %d of %d files, %d of %d bytes (%s) in %.1f s, %s/s, read back: %s", n.Shards, s.SSDDir,
		strings.Join(parts, ", "), r.FilesRead, r.Files, r.BytesRead, r.Bytes, humanize.Size(r.BytesRead), seconds,
		humanize.Size(int64(float64(r.BytesRead)/seconds)), cmp.Or(r.ReadBack, "nothing"))
}

// verdict is the error of the whole run: damage before all else.
func (s *scrub) verdict(ctx context.Context) error {
	n := &s.count
	switch {
	case n.Damaged > 0:
		err := fmt.Errorf("%d of %d shards in %s are damaged", n.Damaged, n.Shards, s.SSDDir)
		if n.Failed > 0 {
			err = fmt.Errorf("%w, and %d could not be verified", err, n.Failed)
		}
		if ctx.Err() != nil {
			err = fmt.Errorf("%w, and not all were looked at: %w", err, context.Cause(ctx))
		}
		return &kindError{ErrDamaged, err}
	case ctx.Err() != nil && n.Left > 0:
		return context.Cause(ctx)
	case n.Failed > 0:
		return fmt.Errorf("%d of %d shards in %s could not be verified", n.Failed, n.Shards, s.SSDDir)
	}
	s.result.Outcome = Verified
	return nil
}
