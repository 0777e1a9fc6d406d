package shardtossd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"shard_to_ssd/internal/errs"
	"shard_to_ssd/internal/humanize"
	"shard_to_ssd/internal/published"
	"shard_to_ssd/internal/statedir"
	"shard_to_ssd/locking"
	"shard_to_ssd/verify"
)

// Scrub is Verify of everything that is published under the SSD dir, the shard that
// was not verified for the longest time first, with one pool of workers and one rate
// limit. A failure with one shard does not stop the others: ScrubOptions.OnShard
// receives each result, and ScrubResult.Counts counts them. The error is ErrDamaged if
// any shard is damaged. A directory that this tool did not publish is no failure, nor
// is a shard that is removed meanwhile.
func Scrub(ctx context.Context, o ScrubOptions) (*ScrubResult, error) {
	s := &scrubbing{operation: newOperation(o.Host, o.Work), options: o}
	err := s.perform(s.begin, func() error { return s.run(ctx) })
	return &ScrubResult{s.summary, s.totals, s.counts}, err
}

// scrubbing is one call of Scrub.
type scrubbing struct {
	*operation
	options    ScrubOptions
	checker    *verify.Checker
	counts     ScrubCounts
	totals     Comparison // what was read; Files and Bytes at the end
	done, left volume     // done: of the shards that were begun
}

// volume is the size of some shards.
type volume struct{ files, bytes int64 }

func (v *volume) add(more volume) { v.files, v.bytes = v.files+more.files, v.bytes+more.bytes }
func (v *volume) sub(less volume) { v.files, v.bytes = v.files-less.files, v.bytes-less.bytes }

func (s *scrubbing) begin() error {
	if err := checkMaxAge(s.options.MaxAge); err != nil {
		return err
	}
	if err := s.checkWork(); err != nil {
		return err
	}
	return s.openHost()
}

func (s *scrubbing) run(ctx context.Context) error {
	candidates, err := s.findCandidates(ctx)
	if err != nil {
		return err
	}
	s.checker = verify.NewChecker(ctx, s.Jobs, s.Bandwidth)
	defer s.checker.Close()
	s.counts.Shards, s.counts.Left = len(candidates), len(candidates)
	s.summary.Jobs = s.Jobs
	for _, c := range candidates {
		s.left.add(c.volume)
	}
	s.announceWork()
	for _, c := range candidates {
		if ctx.Err() != nil {
			break
		}
		s.verifyShard(ctx, c)
	}
	s.totals.Files, s.totals.Bytes = s.done.files+s.left.files, s.done.bytes+s.left.bytes
	s.reportCounts()
	return s.verdict(ctx)
}

// candidate is a shard that may have to be verified.
type candidate struct {
	name     string
	lastGood time.Time // see statedir.VerifyRecords
	volume
}

// findCandidates returns all shards, the one that was not verified for the longest time
// first.
func (s *scrubbing) findCandidates(ctx context.Context) (all []candidate, err error) {
	names, err := s.expectedNames()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		all = append(all, s.onShard(name).findCandidate(ctx))
	}
	slices.SortFunc(all, func(a, b candidate) int {
		return cmp.Or(a.lastGood.Compare(b.lastGood), strings.Compare(a.name, b.name))
	})
	return all, nil
}

// expectedNames returns the names in the SSD dir, and those of shards that were
// published there and have users.
func (s *scrubbing) expectedNames() ([]string, error) {
	names, err := published.ListNames(s.shard.SSD, make([]byte, 64<<10))
	if err != nil {
		return nil, err
	}
	shards, err := statedir.ListShards(s.shard.SSD)
	for _, name := range shards {
		if users, _ := locking.ReadUsers(s.LockDir, name); len(users) > 0 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), err
}

// findCandidate looks at a shard before its turn. An error now is reported then.
func (v *verifying) findCandidate(ctx context.Context) candidate {
	c := candidate{name: v.shard.Name}
	state, m, err := v.openProvable(ctx)
	if err != nil {
		return c
	}
	defer state.Close()
	defer m.Close()
	records, _ := state.VerifyRecords(m) // an error says that it was never verified
	c.lastGood = records.LastGood()
	if !statedir.IsRecent(c.lastGood, v.options.MaxAge) {
		c.volume = volume{m.Files, m.Bytes}
	}
	return c
}

// onShard returns the verification of one of the shards. It shares the descriptors of
// the scrub and must not be ended.
func (s *scrubbing) onShard(name string) *verifying {
	one := &operation{Host: s.Host, Work: s.Work, shard: s.shard, lockDir: s.lockDir, started: time.Now()}
	one.shard.Name, one.summary.Shard = name, name
	one.Observer = silentPlan{s.Observer}
	v := newVerifying(one, VerifyOptions{MaxAge: s.options.MaxAge})
	v.checker = s.checker
	return v
}

// announceWork tells the observer how much there is to do, as far as it is known now.
func (s *scrubbing) announceWork() {
	s.Observer.Planned(s.totals.FilesRead+s.left.files, s.totals.BytesRead+s.left.bytes)
}

// verifyShard verifies one shard. A failure does not stop the scrub.
func (s *scrubbing) verifyShard(ctx context.Context, c candidate) {
	v := s.onShard(c.name)
	err := s.countResult(ctx, v, v.run(ctx))
	v.summary.Duration = time.Since(v.started)
	if err != nil {
		v.summary.Outcome = ""
	}
	result := v.verifyResult()
	s.left.sub(c.volume)
	if result.Outcome != Skipped {
		s.done.add(volume{result.Files, result.Bytes})
	}
	s.totals.FilesRead += result.FilesRead
	s.totals.BytesRead += result.BytesRead
	s.totals.ReadBack = verify.WeakerMode(s.totals.ReadBack, result.ReadBack)
	s.announceWork()
	if s.options.OnShard != nil {
		s.options.OnShard(result, err)
	}
}

// countResult counts a shard, reports its failure, and returns the error if that is a
// failure of the scrub.
func (s *scrubbing) countResult(ctx context.Context, v *verifying, err error) error {
	s.counts.Left--
	switch {
	case err == nil && v.summary.Outcome == Skipped:
		s.counts.Skipped++
	case err == nil:
		s.counts.Verified++
	case errors.Is(err, ErrGone):
		s.counts.Gone++
		v.summary.Outcome = Gone
	case errors.Is(err, ErrNotPublished):
		s.counts.NotPublished++
		v.summary.Outcome = NotPublished
	case errors.Is(err, ErrDamaged):
		s.counts.Damaged++
		s.log(Error, "root", "%v", err)
	case ctx.Err() != nil:
		s.counts.Left++
	default:
		s.counts.Failed++
		s.log(Error, "root", "verify shard %s: %v", v.shard.Name, err)
	}
	if v.summary.Outcome == "" {
		return err
	}
	if err != nil {
		s.info("%v", err)
	}
	return nil
}

// reportCounts logs the sum of the scrub.
func (s *scrubbing) reportCounts() {
	n := &s.counts
	parts := []string{fmt.Sprintf("%d as published", n.Verified), fmt.Sprintf("%d damaged", n.Damaged), fmt.Sprintf("%d failed", n.Failed)}
	for _, more := range []struct {
		n    int
		what string
	}{
		{n.Skipped, "verified less than " + humanize.Age(s.options.MaxAge) + " ago"},
		{n.NotPublished, "not published by this tool"},
		{n.Gone, "gone meanwhile"},
		{n.Left, "not verified completely"},
	} {
		if more.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", more.n, more.what))
		}
	}
	t, seconds := &s.totals, time.Since(s.started).Seconds()
	s.info("Verified %s: %s: %s. Read %d of %s, %d of %s (%s) in %.1f s, %s/s, read back: %s", s.SSDDir, humanize.Count(n.Shards, "shard"),
		strings.Join(parts, ", "), t.FilesRead, humanize.Count(t.Files, "file"), t.BytesRead, humanize.Count(t.Bytes, "byte"), humanize.Size(t.BytesRead), seconds,
		humanize.Size(int64(float64(t.BytesRead)/seconds)), cmp.Or(string(t.ReadBack), "nothing"))
}

// verdict returns the error of the whole scrub: damage before all else.
func (s *scrubbing) verdict(ctx context.Context) error {
	n := &s.counts
	switch {
	case n.Damaged > 0:
		err := fmt.Errorf("found damage in %d of %s in %s", n.Damaged, humanize.Count(n.Shards, "shard"), s.SSDDir)
		if n.Failed > 0 {
			err = fmt.Errorf("%w, and %d could not be verified", err, n.Failed)
		}
		if ctx.Err() != nil {
			err = fmt.Errorf("%w; not all shards were verified: %w", err, context.Cause(ctx))
		}
		return errs.WithKind(err, ErrDamaged)
	case ctx.Err() != nil && n.Left > 0:
		return context.Cause(ctx)
	case n.Failed > 0:
		return fmt.Errorf("%d of %s in %s could not be verified", n.Failed, humanize.Count(n.Shards, "shard"), s.SSDDir)
	}
	s.summary.Outcome = Verified
	return nil
}
