package shardtossd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"shard_to_ssd/copier"
	"shard_to_ssd/internal/errs"
	"shard_to_ssd/internal/humanize"
	"shard_to_ssd/internal/repair"
	"shard_to_ssd/internal/statedir"
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/tree"
	"shard_to_ssd/verify"
)

// Repair makes a damaged shard equal to its manifest again, from its source.
//
//	read the shard → damage? ─no─► done
//	                    └yes─► does the source match? → lock → still damaged? → copy ⇄ read back
//	                           → compare with the manifest → put in place → read again → unlock
//
// Nothing is changed unless the source agrees with the manifest in everything that has
// to be copied. The copies are made in the stage, proven and on stable storage, before
// the first of them takes its place in one rename; a process that has the old file open
// keeps it. Repair may be stopped anywhere: the shard is no worse than before, and the
// next Repair continues. Errors: those of Ensure and Verify; ErrDamaged if damage stays.
func Repair(ctx context.Context, o RepairOptions) (*RepairResult, error) {
	r := &repairing{comparing: comparing{operation: newOperation(o.Host, o.Work)}, options: o}
	r.transfer = transfer{operation: r.operation, engine: o.Engine}
	r.lockTimeout = o.LockTimeout
	err := r.perform(func() error { return r.beginShard(o.Shard) }, func() error { return r.run(ctx) })
	return &RepairResult{r.summary, r.result(), r.source, r.transfer.result, r.repairs, r.limit.Count}, err
}

// repairing is one call of Repair.
type repairing struct {
	comparing
	options  RepairOptions
	transfer transfer
	repairs  []RepairedEntry
	limit    verify.KeepLimit // of repairs
}

func (r *repairing) run(ctx context.Context) error {
	pub, err := r.shard.Stat()
	if err != nil {
		return err
	}
	if pub == nil {
		return errs.WithKind(fmt.Errorf("shard %s is not in %s", r.shard.Name, r.SSDDir), ErrNotOnSSD)
	}
	r.checker = verify.NewChecker(ctx, r.Jobs, r.Bandwidth)
	defer r.checker.Close()
	plan, err := r.findDamage(ctx, pub)
	switch {
	case err != nil:
		return err
	case plan.IsEmpty():
		r.reportUndamaged()
		return nil
	case r.options.DryRun:
		plan.EachAction(r.addRepair)
		r.summary.Outcome = WouldRepair
		r.info("Shard %s is damaged in %s and can be repaired; nothing was changed", r.shard.Name, humanize.Count(r.limit.Count, "place"))
		return nil
	}
	return r.repairLocked(ctx, plan)
}

func (r *repairing) reportUndamaged() {
	r.summary.Outcome = NothingToRepair
	r.info("Shard %s is as it was published, there is nothing to repair", r.shard.Name)
}

// addRepair counts a repaired entry.
func (r *repairing) addRepair(path string, action repair.Action) {
	if r.limit.Take(len(path) + len(action)) {
		r.repairs = append(r.repairs, RepairedEntry{path, RepairAction(action)})
	}
}

// findDamage reads the whole shard, without a lock, and as much of the source as is
// needed to repair it.
func (r *repairing) findDamage(ctx context.Context, pub *sys.Stat) (*repair.Plan, error) {
	state, m, err := r.openManifestOf(ctx, pub)
	if err != nil {
		return nil, err
	}
	defer state.Close()
	defer m.Close()
	began := time.Now()
	r.Observer.Planned(m.Files, m.Bytes)
	r.totals.Files, r.totals.Bytes, r.summary.Jobs = m.Files, m.Bytes, r.Jobs
	if err := m.Check(ctx); err != nil {
		return nil, r.manifestError(err)
	}
	plan, mode, err := r.examine(ctx, m, nil, func(d verify.Difference) {
		d.Side = verify.OnSSD
		r.found.Add(d)
	})
	r.totals.ReadBack = mode
	if err := r.unlessGone(m, err); err != nil {
		return nil, err
	}
	if plan.IsEmpty() {
		r.recordFound(state, m, statedir.VerifyRecord{Time: began, Mode: mode})
		return plan, nil
	}
	r.recordFound(state, m, statedir.VerifyRecord{Time: time.Now(), Mode: mode, Differences: r.found.Count})
	if err := r.refuseRoot(pub, plan); err != nil {
		return nil, err
	}
	return plan, r.checkSource(ctx, m, plan)
}

// recordFound records the verification that Repair begins with, unless nothing is to
// be changed.
func (r *repairing) recordFound(state *statedir.Dir, m *verify.Manifest, record statedir.VerifyRecord) {
	if !r.options.DryRun {
		r.recordVerify(state, m, record)
	}
}

// examine compares the shard, or only the entries in paths, with its manifest, and plans
// the repair of the damage.
func (r *repairing) examine(ctx context.Context, m *verify.Manifest, paths *tree.PathSet, report func(verify.Difference)) (*repair.Plan, verify.ReadMode, error) {
	return repair.Examine(ctx, r.checker, verify.Comparison{Manifest: m, Shard: r.shard.Tree(), Progress: r.Observer, Report: report}, paths)
}

// refuseRoot refuses damage that can only be repaired by another inode under the public
// name: the manifest is bound to this one, and no rename changes both at once.
func (r *repairing) refuseRoot(pub *sys.Stat, plan *repair.Plan) error {
	if pub.IsDir() && !plan.RootIsBroken() {
		return nil
	}
	return errs.WithKind(fmt.Errorf("shard %s is damaged, and cannot be repaired because it is one file, or its top directory cannot be read: "+
		"remove it with -r for each of its users, then -c copies it again", r.shard.Name), ErrDamaged)
}

// checkSource compares the needed part of the source with the manifest. A difference is
// an error that names it.
func (r *repairing) checkSource(ctx context.Context, m *verify.Manifest, plan *repair.Plan) error {
	if plan.Copied.Len()+plan.InPlace.Len() == 0 {
		return nil
	}
	source, err := r.openSourceTree(r.options.Shard)
	if errors.Is(err, fs.ErrNotExist) {
		r.source.SourceState = SourceAbsent
	}
	if err != nil {
		return fmt.Errorf("shard %s is damaged, and cannot be repaired without its source: %w; nothing was changed", r.shard.Name, err)
	}
	defer source.close()
	r.warnOfOtherSource(m, source)
	var found verify.FirstDifference
	sides := verify.NewSideJoiner(&r.found)
	report := verify.IgnoreOwners(func(d verify.Difference) {
		if plan.Prevents(d) {
			found.Add(d)
			sides.AddSource(d)
		}
	})
	err = plan.CompareSource(ctx, r.checker, m, source.tree, report)
	r.source.SourceDifferences = sides.FromSource
	switch {
	case err != nil:
		return fmt.Errorf("compare with the source %q: %w; nothing was changed", source.path, err)
	case found.Count == 0:
		r.source.SourceState = SourceSame
		return nil
	}
	r.source.SourceState = SourceChanged
	return errs.WithKind(fmt.Errorf("shard %s is damaged, and cannot be repaired: the source %q has changed since, it differs from the manifest in %v; nothing was changed",
		r.shard.Name, source.path, &found), ErrSourceChanged)
}

// repairLocked is the second half of run, under both locks. Other processes may have
// held them meanwhile, and repaired the shard, or made it worse: it looks again.
func (r *repairing) repairLocked(ctx context.Context, plan *repair.Plan) error {
	state, err := r.lockPublished(ctx)
	if err != nil {
		return err
	}
	defer state.Close()
	pub, err := r.shard.Stat()
	if err != nil {
		return err
	}
	m, err := r.openManifest(state, pub)
	if err != nil {
		return err
	}
	if m == nil {
		return r.goneBeforeChange()
	}
	defer m.Close()
	if err := m.Check(ctx); err != nil {
		return err
	}
	if plan, _, err = r.examine(ctx, m, plan.Suspects(), func(verify.Difference) {}); err != nil {
		return err
	}
	if plan.IsEmpty() {
		r.reportUndamaged()
		return nil
	}
	if err := r.refuseRoot(pub, plan); err != nil {
		return err
	}
	if err := plan.CheckMounts(r.shard.Tree()); err != nil {
		return err
	}
	return r.applyPlan(ctx, m, state, plan)
}

// applyPlan copies broken entries, puts them in their place, and reads them again.
func (r *repairing) applyPlan(ctx context.Context, m *verify.Manifest, state *statedir.Dir, plan *repair.Plan) error {
	if err := r.copyBroken(ctx, m, state, plan); err != nil {
		return r.failUnchanged(ctx, state, err)
	}
	if err := context.Cause(ctx); err != nil {
		return r.failUnchanged(ctx, state, err)
	}
	target := repair.Target{Shard: r.shard.Tree(), State: state}
	err := target.Apply(ctx, m, plan)
	r.clearRepair(ctx, state)
	if err != nil {
		return fmt.Errorf("repair shard %s: %w; some of it is repaired, nothing is worse than before: run --repair again", r.shard.Name, err)
	}
	if err := r.proveRepaired(ctx, m, plan); err != nil {
		return err
	}
	plan.EachAction(r.addRepair)
	r.summary.Outcome = Repaired
	r.info("Repaired shard %s in %s, %s (%s) copied again; the repaired entries were read back, %s, and are as published", r.shard.Name,
		humanize.Count(r.limit.Count, "place"), humanize.Count(r.transfer.result.Bytes, "byte"), humanize.Size(r.transfer.result.Bytes), r.totals.ReadBack)
	return nil
}

// copyBroken copies broken entries into the stage, brings them onto stable storage, and
// compares them with the manifest, read from the device.
func (r *repairing) copyBroken(ctx context.Context, m *verify.Manifest, state *statedir.Dir, plan *repair.Plan) error {
	if err := state.Clear(ctx, statedir.Trash, r.Jobs); err != nil || plan.Copied.Len() == 0 {
		return err
	}
	src, err := r.openSource(r.options.Shard)
	if err != nil {
		return err
	}
	defer src.Close()
	var copyPlan *copier.Plan
	err = r.withRoom(ctx, func() (err error) {
		copyPlan, err = copier.MakePartialPlan(ctx, src, state.File, plan.Copied)
		return err
	})
	if err != nil {
		return err
	}
	defer copyPlan.Close()
	stage, err := copyPlan.OpenStage(ctx, copier.StageOptions{Resume: true, Jobs: r.Jobs})
	if err != nil {
		return err
	}
	defer stage.Close()
	if err := r.transfer.checkSpace(ctx, copyPlan, stage); err != nil {
		return err
	}
	r.checker.Close() // the copy has workers of its own
	if err := r.transfer.copyAndReadBack(ctx, copyPlan, stage); err != nil {
		return err
	}
	if err := copyPlan.SyncStage(); err != nil {
		return err
	}
	return r.proveStaged(ctx, m, state, plan)
}

// proveStaged refuses new copies that differ from the manifest.
func (r *repairing) proveStaged(ctx context.Context, m *verify.Manifest, state *statedir.Dir, plan *repair.Plan) error {
	found, unread, err := plan.CompareStage(ctx, r.checker, m, state)
	switch {
	case err != nil:
		return err
	case found.Count > 0:
		return fmt.Errorf("%w: the new copy differs from the manifest in %v", copier.ErrSourceChanged, &found)
	case unread.Count > 0:
		return errs.WithKind(fmt.Errorf("the new copy cannot be read back from the SSD in %v", &unread), ErrDamaged)
	}
	return nil
}

// failUnchanged adds to a failure before the first change whether a copy stays on disk:
// the next --repair resumes one that a signal has interrupted.
func (r *repairing) failUnchanged(ctx context.Context, state *statedir.Dir, err error) error {
	err = fmt.Errorf("repair shard %s: %w; nothing of it was changed", r.shard.Name, withPublicKind(err))
	if ctx.Err() != nil {
		return fmt.Errorf("%w, and the copied part is kept in %s for the next --repair", err, state.Path())
	}
	r.clearRepair(ctx, state)
	return err
}

// clearRepair deletes the leftovers of the repair in the state dir.
func (r *repairing) clearRepair(ctx context.Context, state *statedir.Dir) {
	err := state.Clear(context.WithoutCancel(ctx), statedir.Copy|statedir.Trash, r.Jobs)
	if err != nil {
		r.warn("cannot delete the leftovers of the repair of shard %s in %s, the next call tries again: %v", r.shard.Name, state.Path(), err)
	}
}

// proveRepaired reads the repaired entries once more, in their final place.
func (r *repairing) proveRepaired(ctx context.Context, m *verify.Manifest, plan *repair.Plan) error {
	var still verify.DifferenceList
	var found verify.FirstDifference
	_, _, err := r.examine(ctx, m, plan.Changed(), func(d verify.Difference) {
		d.Side = verify.OnSSD
		found.Add(d)
		still.Add(d)
	})
	if err != nil {
		return fmt.Errorf("shard %s was repaired, but reading that back failed: %w", r.shard.Name, err)
	}
	if found.Count == 0 {
		return nil
	}
	r.found = still
	return errs.WithKind(fmt.Errorf("shard %s was repaired, but still differs from its manifest in %v", r.shard.Name, &found), ErrDamaged)
}
