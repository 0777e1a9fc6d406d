package shardtossd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"shard_to_ssd/copier"
	"shard_to_ssd/internal/errs"
	"shard_to_ssd/internal/humanize"
	"shard_to_ssd/internal/pool"
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/tree"
	"shard_to_ssd/locking"
	"shard_to_ssd/verify"
)

// Repair makes a damaged shard what was published, from its source.
//
//	read the shard → damage? ─no─► done
//	                    └yes─► does the source match? → lock → damaged still? → copy ⇄ read back
//	                           → hold against the manifest → put in place → read again → unlock
//
// Nothing is changed unless the source has what the manifest says for all that has to
// be copied. The copies are made in the stage, proven and on stable storage, before the
// first of them takes its place in one rename; who has the old file open keeps it. It
// may be stopped anywhere: the shard is no worse than before, and the next Repair goes
// on. Errors: as those of Ensure; ErrDamaged if damage stays.
func Repair(ctx context.Context, o Options) (*Result, error) {
	op, err := begin(o, opRepair)
	if err == nil {
		err = op.repair(ctx)
	}
	return op.end(err)
}

func (op *operation) repair(ctx context.Context) error {
	pub, err := op.published()
	if err != nil {
		return err
	}
	if pub == nil {
		return fmt.Errorf("shard %s is not in %s", op.name, op.SSDDir)
	}
	need, err := op.lookForDamage(ctx, pub)
	switch {
	case err != nil:
		return err
	case need.none():
		return op.nothingToRepair()
	case op.DryRun:
		need.repairs(op.repairs)
		op.result.Outcome = WouldRepair
		op.info("Shard %s is damaged in %d places and can be repaired; nothing was changed", op.name, op.result.RepairCount)
		return nil
	}
	return op.repairLocked(ctx, need)
}

func (op *operation) nothingToRepair() error {
	op.result.Outcome = NothingToRepair
	op.info("Shard %s is as it was published, there is nothing to repair", op.name)
	return nil
}

// lookForDamage reads the whole shard, without a lock, and what of the source is
// needed to mend it.
func (op *operation) lookForDamage(ctx context.Context, pub *sys.Stat) (*mending, error) {
	state, m, err := op.manifestOf(pub)
	if err != nil {
		return nil, err
	}
	defer state.close() //nolint:errcheck // opened for reading
	defer m.Close()     //nolint:errcheck // opened for reading
	began := time.Now()
	op.Observer.Planned(m.Files, m.Bytes)
	op.result.Files, op.result.Bytes, op.result.Jobs = m.Files, m.Bytes, op.Jobs
	if err := m.CheckUntil(ctx); err != nil {
		return nil, op.manifestError(err)
	}
	need, err := op.damageOf(ctx, m, nil, func(d verify.Difference) {
		d.Side = verify.OnSSD
		op.differs(d)
	})
	if err := op.unlessGone(m, err); err != nil {
		return nil, err
	}
	mode := verify.ReadMode(op.result.ReadBack)
	if need.none() {
		op.remember(state, m, finding{when: began, mode: mode})
		return need, nil
	}
	op.remember(state, m, finding{when: time.Now(), mode: mode, differences: op.result.DifferenceCount})
	if err := op.refuseRoot(m, pub, need); err != nil {
		return nil, err
	}
	return need, op.sourceMatches(ctx, m, need)
}

// damageOf compares the shard, or some of it, with its manifest, and says what has to
// be mended.
func (op *operation) damageOf(ctx context.Context, m *verify.Manifest, only *tree.Only, tell func(verify.Difference)) (*mending, error) {
	need := newMending()
	shard := verify.Shard{In: op.ssd, Name: op.name, Only: only}
	medium, err := op.contentsOf(ctx, m, shard, op.Observer, func(d verify.Difference) {
		need.add(d)
		tell(d)
	})
	if only == nil {
		op.result.ReadBack = string(medium.Mode())
	}
	if err == nil && !need.none() {
		err = need.settle(shard, m)
	}
	return need, err
}

// refuseRoot refuses what can only be mended by another inode under the public name:
// the manifest is bound to this one, and no rename changes both at once.
func (op *operation) refuseRoot(m *verify.Manifest, pub *sys.Stat, need *mending) error {
	if pub.IsDir() && need.damage["."] < broken {
		return nil
	}
	return asKind(fmt.Errorf("shard %s is damaged, and is one file, or its top directory cannot be read: that is not repaired; "+
		"remove it with -r for each of its users, then -c copies it afresh", op.name), ErrDamaged)
}

// repairs counts a repair, and keeps it if it is one of the first.
func (op *operation) repairs(r Mended) {
	op.result.RepairCount++
	op.repairBytes += len(r.Path) + len(r.Action)
	if op.result.RepairCount <= maxDifferences && op.repairBytes <= maxDifferenceBytes {
		op.result.Repairs = append(op.result.Repairs, r)
	}
}

// repairLocked is the second half of repair, under both locks.
func (op *operation) repairLocked(ctx context.Context, need *mending) error {
	state, err := op.lockPublished(ctx)
	if err != nil {
		return err
	}
	defer state.close() //nolint:errcheck // gives the flock back
	pub, err := op.published()
	if err != nil {
		return err
	}
	if pub == nil {
		return op.errGoneMeanwhile()
	}
	m, err := op.boundManifest(state, pub)
	if err != nil {
		return err
	}
	if m == nil {
		return op.errGoneMeanwhile()
	}
	defer m.Close() //nolint:errcheck // opened for reading
	if err := m.Check(); err != nil {
		return err
	}
	// Others may have had the lock meanwhile, and mended it, or made it worse.
	need, err = op.damageOf(ctx, m, need.suspect(), func(verify.Difference) {})
	if err != nil {
		return err
	}
	if need.none() {
		return op.nothingToRepair()
	}
	if err := errs.Join(op.refuseRoot(m, pub, need), op.refuseMounts(need)); err != nil {
		return err
	}
	return op.mend(ctx, m, state, need)
}

// lockPublished takes the locks of a shard that is there. Without a user file, which
// must not be made for this, the lock of the state dir keeps others of this tool away.
func (op *operation) lockPublished(ctx context.Context) (*stateDir, error) {
	if err := op.acquire(ctx, false); err != nil && !errors.Is(err, locking.ErrMissing) {
		return nil, err
	}
	state, err := op.openStateIfThere()
	if err != nil {
		return nil, err
	}
	if state == nil {
		return nil, op.errGoneMeanwhile()
	}
	err = state.lock(ctx, op.patience())
	if err == nil {
		return state, nil
	}
	state.close() //nolint:errcheck // opened for reading
	if errors.Is(err, errUnlinked) {
		err = op.errGoneMeanwhile()
	}
	return nil, err
}

func (op *operation) errGoneMeanwhile() error {
	return fmt.Errorf("shard %s was removed or replaced meanwhile; nothing was changed", op.name)
}

// mend copies what is broken, puts it in its place, and reads that again.
func (op *operation) mend(ctx context.Context, m *verify.Manifest, state *stateDir, need *mending) error {
	files, bytes := op.result.Files, op.result.Bytes
	err := op.copyBroken(ctx, m, state, need)
	copied := op.result.Bytes
	op.result.Files, op.result.Bytes = files, bytes // of the shard, as read
	if err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return op.nothingMended(ctx, state, err)
	}
	if need.copied.Len() == 0 {
		copied = 0
	}
	err = op.putBack(ctx, m, state, need)
	op.clearRepair(context.WithoutCancel(ctx), state)
	if err != nil {
		return fmt.Errorf("repair shard %s: %w; some of it is mended, nothing is worse than before: run --repair again", op.name, err)
	}
	if err := op.proveMended(ctx, m, need); err != nil {
		return err
	}
	need.repairs(op.repairs)
	op.result.Outcome = Repaired
	op.info("Repaired shard %s in %d places, %d bytes (%s) copied again; what was mended was read back, %s, and is as it was published",
		op.name, op.result.RepairCount, copied, humanize.Size(copied), op.result.ReadBack)
	return nil
}

// copyBroken makes what is broken anew in the stage, on stable storage, and holds it
// against the manifest, reading it from the medium.
func (op *operation) copyBroken(ctx context.Context, m *verify.Manifest, state *stateDir, need *mending) error {
	if err := state.clearTrash(ctx, op.Jobs); err != nil || need.copied.Len() == 0 {
		return err
	}
	src, err := op.openSource()
	if err != nil {
		return err
	}
	defer src.Close() //nolint:errcheck // opened for reading
	var plan *copier.Plan
	err = op.withRoom(ctx, func() (err error) {
		plan, err = copier.MakePartialPlan(ctx, src, state.File, need.copied)
		return err
	})
	if err != nil {
		return err
	}
	defer plan.Close() //nolint:errcheck // not needed after
	stage, err := plan.OpenStage(ctx, true, op.Jobs)
	if err != nil {
		return err
	}
	defer stage.Close() //nolint:errcheck // the journal is not needed after
	if err := op.findSpace(ctx, plan, stage); err != nil {
		return err
	}
	readBack := op.result.ReadBack // of the shard
	if err := op.copyAndReadBack(ctx, plan, stage); err != nil {
		return err
	}
	op.result.ReadBack = readBack
	if err := plan.SyncStage(); err != nil {
		return err
	}
	return op.proveStaged(ctx, m, state, need)
}

// proveStaged holds what was copied against the manifest: the source may have changed
// since it was compared.
func (op *operation) proveStaged(ctx context.Context, m *verify.Manifest, state *stateDir, need *mending) error {
	workers, err := pool.New(op.Jobs)
	if err != nil {
		return err
	}
	defer workers.Close() //nolint:errcheck // only memory
	var found, unread firstOf
	tell := func(d verify.Difference) {
		switch {
		case d.Kind == verify.Unreadable:
			unread.add(d)
		case need.matters(d):
			found.add(d)
		}
	}
	medium := &verify.Medium{Own: true, Pace: pool.NewPace(ctx, op.Bandwidth)}
	shard := verify.Shard{In: state.File, Name: copier.StageName, Only: need.copied}
	err = verify.ProveTree(ctx, m, shard, tell)
	if err == nil && found.count == 0 {
		err = verify.Contents(ctx, m, shard, workers, medium, copier.Nobody{}, tell)
	}
	switch {
	case err != nil:
		return err
	case found.count > 0:
		return fmt.Errorf("%w: what was copied from it is not what the manifest says in %v", copier.ErrSourceChanged, &found)
	case unread.count > 0:
		return asKind(fmt.Errorf("what was copied again cannot be read back from the SSD in %v", &unread), ErrDamaged)
	}
	return nil
}

// nothingMended says what is left after a failure before anything was put in place.
// What a signal has stopped, the next --repair goes on with.
func (op *operation) nothingMended(ctx context.Context, state *stateDir, err error) error {
	var damage *copier.DamageError
	var space *copier.SpaceError
	switch {
	case errors.As(err, &damage):
		err = asKind(err, ErrDamaged)
	case errors.As(err, &space), sys.NoSpace(err):
		err = asKind(err, ErrNoSpace)
	}
	err = fmt.Errorf("repair shard %s: %w; nothing of it was changed", op.name, err)
	if ctx.Err() != nil {
		return fmt.Errorf("%w, and what was copied is kept in %s for the next --repair", err, state.Path())
	}
	op.clearRepair(context.WithoutCancel(ctx), state)
	return err
}

// clearRepair deletes what the repair has left in the state dir.
func (op *operation) clearRepair(ctx context.Context, state *stateDir) {
	err := errs.Join(copier.RemoveStage(ctx, state.File, op.Jobs), copier.DropPlan(ctx, state.File), state.clearTrash(ctx, op.Jobs))
	if err != nil {
		op.warn("what the repair of shard %s left in %s could not be deleted, the next call will: %v", op.name, state.Path(), err)
	}
}

// proveMended reads what was mended once more, where it is now.
func (op *operation) proveMended(ctx context.Context, m *verify.Manifest, need *mending) error {
	var left []verify.Difference
	var found firstOf
	_, err := op.damageOf(ctx, m, need.touched(), func(d verify.Difference) {
		d.Side = verify.OnSSD
		if found.add(d); found.count <= maxDifferences {
			left = append(left, d)
		}
	})
	if err != nil {
		return fmt.Errorf("shard %s was mended, but reading that back failed: %w", op.name, err)
	}
	if found.count == 0 {
		return nil
	}
	op.result.Differences, op.result.DifferenceCount = left, int64(found.count)
	return asKind(fmt.Errorf("shard %s was repaired, but still differs from what was published in %v", op.name, &found), ErrDamaged)
}
