package shardtossd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"shard_to_ssd/copier"
	"shard_to_ssd/internal/errs"
	"shard_to_ssd/internal/humanize"
	"shard_to_ssd/internal/statedir"
	"shard_to_ssd/locking"
	"shard_to_ssd/verify"
)

// Verify reads the shard back from the SSD and compares everything with its manifest.
// It takes no lock: a shard that is removed or replaced meanwhile is the error ErrGone,
// not damage. If there is damage, the error is ErrDamaged, and the result names the
// differences. If ctx ends, the result says how much was read. Errors: ErrUsage,
// ErrDamaged, ErrNotOnSSD, ErrNotPublished, ErrGone, ErrDamagedManifest, the cause of
// ctx, or any other failure.
func Verify(ctx context.Context, o VerifyOptions) (*VerifyResult, error) {
	v := newVerifying(newOperation(o.Host, o.Work), o)
	err := v.perform(v.begin, func() error { return v.runAlone(ctx) })
	return v.verifyResult(), err
}

// runAlone is run with a checker of its own.
func (v *verifying) runAlone(ctx context.Context) error {
	v.checker = verify.NewChecker(ctx, v.Jobs, v.Bandwidth)
	defer v.checker.Close()
	if err := v.run(ctx); err != nil {
		return err
	}
	if v.summary.Outcome == Skipped {
		v.info("Skipped shard %s: it passed a verification less than %s ago", v.shard.Name, humanize.Age(v.options.MaxAge))
	}
	return nil
}

// verifying is one verification of one shard.
type verifying struct {
	comparing
	options VerifyOptions
}

func newVerifying(op *operation, o VerifyOptions) *verifying {
	return &verifying{comparing{operation: op}, o}
}

func (v *verifying) begin() error {
	if err := checkMaxAge(v.options.MaxAge); err != nil {
		return err
	}
	return v.beginShard(v.options.Shard)
}

func (v *verifying) verifyResult() *VerifyResult {
	return &VerifyResult{v.summary, v.result(), v.source}
}

func (v *verifying) run(ctx context.Context) error {
	began := time.Now()
	state, m, err := v.openProvable(ctx)
	if err != nil {
		return err
	}
	defer state.Close()
	defer m.Close()
	v.totals.Files, v.totals.Bytes, v.summary.Jobs = m.Files, m.Bytes, v.Jobs
	if v.options.MaxAge > 0 && v.passedRecently(state, m) {
		v.summary.Outcome = Skipped
		return nil
	}
	err = v.compareShard(ctx, m)
	damage := v.found.Count
	err = v.withDamage(m, err)
	proven := err == nil
	if v.options.Source && ctx.Err() == nil && (proven || damage > 0) {
		err = errs.Join(err, v.compareSource(ctx, v.options.Shard, m))
	}
	err = v.unlessGone(m, err)
	v.reportInterrupted(ctx)
	switch {
	case errors.Is(err, ErrGone):
	case damage > 0:
		v.recordVerify(state, m, statedir.VerifyRecord{Time: time.Now(), Mode: v.totals.ReadBack, Differences: damage})
	case proven:
		v.recordVerify(state, m, statedir.VerifyRecord{Time: began, Mode: v.totals.ReadBack})
	case errors.Is(err, verify.ErrManifestDamaged) && !verify.IsProcessError(err):
		v.forgetPass(state)
	}
	if err != nil {
		return err
	}
	v.summary.Outcome = Verified
	v.info("Shard %s is as it was published: %s, %s (%s) read back: %s", v.shard.Name, humanize.Count(m.Files, "file"),
		humanize.Count(m.Bytes, "byte"), humanize.Size(m.Bytes), v.totals.ReadBack)
	return nil
}

// compareShard compares the shard with its manifest, after the manifest with its own
// checksum.
func (v *verifying) compareShard(ctx context.Context, m *verify.Manifest) error {
	passes := int64(1)
	if v.options.Source {
		passes = 2
	}
	v.Observer.Planned(passes*m.Files, passes*m.Bytes)
	if err := m.Check(ctx); err != nil {
		return v.manifestError(err)
	}
	counter := &readCounter{Observer: v.Observer}
	mode, err := v.checker.Compare(ctx, verify.Comparison{Manifest: m, Shard: v.shard.Tree(), Progress: counter, Report: v.found.Add})
	v.totals.ReadBack, v.totals.FilesRead, v.totals.BytesRead = mode, counter.files.Load(), counter.bytes.Load()
	return err
}

// withDamage returns the error of a comparison that ended with err. Differences that
// were found before an error are damage all the same.
func (v *verifying) withDamage(m *verify.Manifest, err error) error {
	if v.found.Count == 0 {
		return err
	}
	damage := fmt.Errorf("shard %s is damaged: %s from its manifest, published at %s", v.shard.Name,
		humanize.Count(v.found.Count, "difference"), humanize.Time(m.Time))
	if err != nil {
		damage = fmt.Errorf("%w; not everything was compared: %w", damage, err)
	}
	return errs.WithKind(damage, ErrDamaged)
}

// reportInterrupted logs how much a verification read before ctx ended.
func (v *verifying) reportInterrupted(ctx context.Context) {
	if ctx.Err() == nil {
		return
	}
	t := &v.totals
	v.info("Stopped verifying shard %s: read %d of %s, %d of %s (%s), found %s", v.shard.Name, t.FilesRead, humanize.Count(t.Files, "file"),
		t.BytesRead, humanize.Count(t.Bytes, "byte"), humanize.Size(t.BytesRead), humanize.Count(v.found.Count, "difference"))
}

// forgetPass makes a shard that can no longer be proven count as never verified, so
// that no verification skips it.
func (v *verifying) forgetPass(state *statedir.Dir) {
	if err := state.ForgetPass(); err != nil {
		v.warn("cannot delete the record that shard %s passed a verification: %v", v.shard.Name, err)
	}
}

// passedRecently reports whether the shard is to be skipped.
func (v *verifying) passedRecently(state *statedir.Dir, m *verify.Manifest) bool {
	records, err := state.VerifyRecords(m)
	if err != nil {
		v.warn("%v", err)
	}
	return statedir.IsRecent(records.LastGood(), v.options.MaxAge)
}

// openProvable opens the manifest that is bound to the shard under the public name, and
// the state dir of the shard.
func (op *operation) openProvable(ctx context.Context) (*statedir.Dir, *verify.Manifest, error) {
	pub, err := op.shard.Stat()
	if err == nil && pub == nil {
		err = op.errAbsent()
	}
	if err != nil {
		return nil, nil, err
	}
	state, m, err := op.openManifestOf(ctx, pub)
	if errors.Is(err, ErrNotPublished) { // or it was removed while the manifest was looked for
		if now, statErr := op.shard.Stat(); statErr == nil && (now == nil || !now.SameFile(pub)) {
			err = op.errGone()
		}
	}
	return state, m, err
}

// errAbsent returns the error for a shard that is not there. If it has users, it is
// lost: it is published before they are registered, and removed after they left.
func (op *operation) errAbsent() error {
	absent := errs.WithKind(fmt.Errorf("shard %s is not in %s", op.shard.Name, op.SSDDir), ErrNotOnSSD)
	users, err := locking.ReadUsers(op.LockDir, op.shard.Name)
	if err == nil && len(users) > 0 {
		if now, err := op.shard.Stat(); err == nil && now == nil {
			return fmt.Errorf("%w, although it has %s: copy it again with -c", absent, humanize.Count(len(users), "user"))
		}
	}
	return errs.WithKind(absent, ErrGone)
}

// silentPlan is an Observer whose caller has announced the work already.
type silentPlan struct{ copier.Observer }

// Planned does nothing.
func (silentPlan) Planned(files, bytes int64) {}
