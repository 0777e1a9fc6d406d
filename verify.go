package shardtossd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync/atomic"
	"time"

	"shard_to_ssd/copier"
	"shard_to_ssd/internal/errs"
	"shard_to_ssd/internal/humanize"
	"shard_to_ssd/internal/pool"
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/locking"
	"shard_to_ssd/verify"
)

// Verify reads the shard back from the SSD and compares everything with its
// manifest. It takes no lock: a shard that is removed or replaced meanwhile is an
// error that says so, not damage. With damage, Result.Differences names it, at most
// so much of it as fits into memory, and the error is ErrDamaged. When ctx ends,
// Result says how much was covered.
//
// With Options.Manifest it compares a directory with a list of sums instead, see check.
func Verify(ctx context.Context, o Options) (*Result, error) {
	if o.Manifest != "" {
		return check(ctx, o)
	}
	op, err := begin(o, opVerify)
	if err == nil {
		r := newReader(ctx, op)
		defer r.close()
		err = op.verify(ctx, r)
	}
	if op.result.Outcome == Skipped {
		op.info("Shard %s was found as published less than %s ago, and is skipped", op.name, humanize.Age(o.MaxAge))
	}
	return op.end(err)
}

// Why a shard could not be verified, where that is no failure of a run over all.
var (
	errNotOurs = errors.New("not published by this tool")
	errGone    = errors.New("removed or replaced")
)

func (op *operation) verify(ctx context.Context, r *reader) error {
	began := time.Now()
	state, m, err := op.provable()
	if err != nil {
		return err
	}
	defer state.close() //nolint:errcheck // opened for reading
	defer m.Close()     //nolint:errcheck // opened for reading
	op.result.Files, op.result.Bytes, op.result.Jobs = m.Files, m.Bytes, op.Jobs
	if op.MaxAge > 0 && op.foundLately(state, m) {
		op.result.Outcome = Skipped
		return nil
	}
	medium, err := op.compare(ctx, m, r)
	op.result.ReadBack = string(medium.Mode())
	damage := op.result.DifferenceCount
	err = op.verdict(m, err)
	proven := err == nil
	if op.Source && ctx.Err() == nil && (proven || damage > 0) {
		err = errs.Join(err, op.againstSource(ctx, m))
	}
	err = op.unlessGone(m, err)
	op.sayCovered(ctx)
	switch {
	case errors.Is(err, errGone):
	case damage > 0:
		op.remember(state, m, finding{when: time.Now(), mode: medium.Mode(), differences: damage})
	case proven:
		op.remember(state, m, finding{when: began, mode: medium.Mode()})
	case errors.Is(err, verify.ErrManifest) && !verify.Ours(err):
		op.forgetPass(state)
	}
	if err == nil {
		op.result.Outcome = Verified
		op.info("Shard %s is as it was published: %d files, %d bytes (%s) read back: %s", op.name, m.Files, m.Bytes, humanize.Size(m.Bytes), op.result.ReadBack)
	}
	return err
}

// verdict is what there is to say of a comparison that ended with err. What was found
// before an error is damage all the same.
func (op *operation) verdict(m *verify.Manifest, err error) error {
	n := op.result.DifferenceCount
	if n == 0 {
		return err
	}
	damage := fmt.Errorf("shard %s is damaged: %d differences from what was published at %s", op.name, n, m.Time.Local().Format(time.DateTime))
	if err != nil {
		damage = fmt.Errorf("%w, and not all of it was compared: %w", damage, err)
	}
	return &kindError{ErrDamaged, damage}
}

// sayCovered says how far a verification came that was told to stop.
func (op *operation) sayCovered(ctx context.Context) {
	if r := &op.result; ctx.Err() != nil {
		op.info("Of shard %s %d of %d files were read, %d of %d bytes (%s): %d differences", op.name, r.FilesRead, r.Files,
			r.BytesRead, r.Bytes, humanize.Size(r.BytesRead), r.DifferenceCount)
	}
}

// remember writes a finding down, unless nothing is to be changed.
func (op *operation) remember(state *stateDir, m *verify.Manifest, f finding) {
	if op.DryRun {
		return
	}
	if err := state.record(m, f); err != nil {
		op.warn("what was found of shard %s could not be recorded: %v", op.name, err)
	}
}

// forgetPass has a shard that can be proven no more count as never verified, so that
// none skips it.
func (op *operation) forgetPass(state *stateDir) {
	if err := state.UnlinkIfThere(verifiedName); err != nil {
		op.warn("that shard %s was verified once could not be forgotten: %v", op.name, err)
	}
}

// foundLately reports whether the shard is to be skipped for what was found of it.
func (op *operation) foundLately(state *stateDir, m *verify.Manifest) bool {
	found, err := state.findings(m)
	if err != nil {
		op.warn("%v", err)
	}
	return op.recent(found.since())
}

// recent reports whether a shard that was found as published at a time is to be
// skipped. A time that is still to come is a clock's that was wrong.
func (op *operation) recent(passed time.Time) bool {
	age := time.Since(passed)
	return !passed.IsZero() && age >= 0 && age < op.MaxAge
}

// provable opens what is published, and the manifest that is bound to it.
func (op *operation) provable() (*stateDir, *verify.Manifest, error) {
	pub, err := op.published()
	if err == nil && pub == nil {
		err = op.errAbsent()
	}
	if err != nil {
		return nil, nil, err
	}
	state, m, err := op.manifestOf(pub)
	if errors.Is(err, errNotOurs) { // or it went while that was looked for
		if now, statErr := op.published(); statErr == nil && (now == nil || !now.SameFile(pub)) {
			err = op.errGone()
		}
	}
	return state, m, err
}

// errAbsent says that the shard is not there. If it has users nevertheless, it is lost:
// it is published before they are registered, and removed after.
func (op *operation) errAbsent() error {
	absent := fmt.Errorf("shard %s is not in %s", op.name, op.SSDDir)
	users, err := locking.ReadUsers(op.LockDir, op.name)
	if err == nil && len(users) > 0 {
		if now, err := op.published(); err == nil && now == nil {
			return fmt.Errorf("%w, where %d users need it", absent, len(users))
		}
	}
	return &kindError{errGone, absent}
}

// manifestOf opens the manifest that is bound to what is published.
func (op *operation) manifestOf(pub *sys.Stat) (*stateDir, *verify.Manifest, error) {
	state, err := openState(op.ssd, op.name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, op.errNoManifest()
	}
	if err != nil {
		return nil, nil, err
	}
	m, err := verify.OpenManifest(state.File)
	if err == nil && (!m.BoundTo(pub) || m.Shard != op.name) {
		if err = m.Check(); err == nil { // one that is damaged may seem to be of another
			err = op.errNoManifest()
		}
		m.Close() //nolint:errcheck // opened for reading
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = op.errNoManifest()
	}
	if err != nil {
		err = op.manifestError(err)
		state.close() //nolint:errcheck // opened for reading
		return nil, nil, err
	}
	return state, m, nil
}

func (op *operation) errNoManifest() error {
	return &kindError{errNotOurs, fmt.Errorf("shard %s in %s has no manifest: this tool did not publish it, and cannot tell what it should be", op.name, op.SSDDir)}
}

// manifestError tells a manifest that is damaged from a shard that is.
func (op *operation) manifestError(err error) error {
	if !errors.Is(err, verify.ErrManifest) || verify.Ours(err) {
		return err
	}
	return fmt.Errorf("the manifest of shard %s is damaged, which says nothing of the shard: %w", op.name, err)
}

func (op *operation) errGone() error {
	return &kindError{errGone, fmt.Errorf("shard %s was removed or replaced while it was verified: nothing is known of the one that is there now", op.name)}
}

// reader is what shards are read with: the workers and the pace of all together.
type reader struct {
	jobs    int
	workers *pool.Pool // nil until there is something to read
	pace    sys.Pace
}

func newReader(ctx context.Context, op *operation) *reader {
	return &reader{jobs: op.Jobs, pace: pool.NewPace(ctx, op.Bandwidth)}
}

func (r *reader) pool() (_ *pool.Pool, err error) {
	if r.workers == nil {
		r.workers, err = pool.New(r.jobs)
	}
	return r.workers, err
}

func (r *reader) close() {
	if r.workers != nil {
		r.workers.Close() //nolint:errcheck // only memory
	}
}

// covered counts what has been read of one shard, and passes it on.
type covered struct {
	copier.Observer
	files, bytes atomic.Int64
}

// ReadBack counts bytes.
func (c *covered) ReadBack(bytes int64) {
	c.bytes.Add(bytes)
	c.Observer.ReadBack(bytes)
}

// FileDone counts a file.
func (c *covered) FileDone() {
	c.files.Add(1)
	c.Observer.FileDone()
}

// contents compares all of a tree, or what of it shard.Only says, with a manifest.
func (r *reader) contents(ctx context.Context, m *verify.Manifest, shard verify.Shard, progress verify.Progress, report func(verify.Difference)) (*verify.Medium, error) {
	medium := &verify.Medium{Pace: r.pace}
	workers, err := r.pool()
	if err != nil {
		return medium, err
	}
	return medium, verify.Contents(ctx, m, shard, workers, medium, progress, report)
}

// compare holds the shard against its manifest, after the manifest against its own
// sum.
func (op *operation) compare(ctx context.Context, m *verify.Manifest, r *reader) (*verify.Medium, error) {
	if op.Source { // as much again
		op.Observer.Planned(2*m.Files, 2*m.Bytes)
	} else {
		op.Observer.Planned(m.Files, m.Bytes)
	}
	if err := m.CheckUntil(ctx); err != nil {
		return &verify.Medium{}, op.manifestError(err)
	}
	c := &covered{Observer: op.Observer}
	medium, err := r.contents(ctx, m, verify.Shard{In: op.ssd, Name: op.name}, c, op.differs)
	op.result.FilesRead, op.result.BytesRead = c.files.Load(), c.bytes.Load()
	return medium, err
}

// How many differences are kept, and how many bytes of them: a shard may be all
// wrong, and a path 256 KiB long.
const (
	maxDifferences     = 10_000
	maxDifferenceBytes = 16 << 20
)

// differs counts a difference, and keeps it if it is one of the first.
func (op *operation) differs(d verify.Difference) {
	op.result.DifferenceCount++
	op.differenceBytes += len(d.Path) + len(d.Detail) + 16*len(d.Ranges)
	if op.result.DifferenceCount <= maxDifferences && op.differenceBytes <= maxDifferenceBytes {
		op.result.Differences = append(op.result.Differences, d)
	}
}

// unlessGone replaces an error by a plainer one if the shard is not any more the
// one that was being verified.
func (op *operation) unlessGone(m *verify.Manifest, err error) error {
	now, statErr := op.published()
	if statErr != nil {
		return errs.Join(err, statErr)
	}
	if now != nil && m.BoundTo(now) {
		return err
	}
	op.result.Differences, op.result.DifferenceCount, op.result.SourceDifferences = nil, 0, 0
	return op.errGone()
}
