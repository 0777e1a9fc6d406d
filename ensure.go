package shardtossd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"shard_to_ssd/copier"
	"shard_to_ssd/internal/errs"
	"shard_to_ssd/internal/humanize"
	"shard_to_ssd/internal/pool"
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/verify"
)

// Ensure copies the shard to the SSD if it is not there, and registers the user.
//
//	lock → present? ─yes───────────────────────────────────────────────────► register → unlock
//	          └no─► walk → plan → copy ⇄ read back → manifest → publish ──┘
//
// If ctx ends before the shard is published, nothing is published and nobody
// registered; the next Ensure goes on with what was copied. Errors: ErrUsage,
// ErrLockTimeout, ErrNoSpace, ErrDamaged, the cause of ctx, or any other failure.
func Ensure(ctx context.Context, o Options) (*Result, error) {
	op, err := begin(o, opCopy)
	if err == nil {
		err = op.ensure(ctx)
	}
	return op.end(err)
}

func (op *operation) ensure(ctx context.Context) (err error) {
	if err := op.refuseForeign(); err != nil {
		return err
	}
	if err := op.acquire(ctx, true); err != nil {
		return err
	}
	defer func() {
		if err != nil && !op.visible {
			err = op.dropNewUserFile(err)
		}
	}()
	state, err := op.openStateIfThere()
	if err != nil {
		return err
	}
	if state != nil {
		defer state.close() //nolint:errcheck // gives the flock back
	}
	found, err := op.lookFor(ctx, state)
	if err != nil {
		return err
	}
	if found == present {
		return op.join(ctx, state)
	}
	op.info("Starting copy shard %s to ssd", op.name)
	return op.copy(ctx, found)
}

// join registers the user of a shard that is there.
func (op *operation) join(ctx context.Context, state *stateDir) error {
	op.info("Shard %s is already on ssd", op.name)
	op.visible = true
	if len(op.user.Users()) == 0 { // whoever published it may not have come to its syncs
		if err := errs.Join(op.ssd.Sync(), state.Sync()); err != nil {
			return err
		}
	}
	if err := op.register(); err != nil {
		return err
	}
	op.result.Outcome = AlreadyOnSSD
	if state == nil {
		return nil
	}
	op.clearLeftovers(ctx, state)
	// The source may be a server that does not answer: nobody shall wait for that.
	if err := op.unlock(); err != nil {
		return err
	}
	op.noteStale(state)
	return nil
}

// clearLeftovers deletes what a crash, or a replacement, has left beside a shard
// that is present.
func (op *operation) clearLeftovers(ctx context.Context, state *stateDir) {
	names, err := state.Names(make([]byte, 4096))
	if err != nil || !slices.ContainsFunc(names, func(name string) bool {
		return name == trashName || name == copier.StageName || copier.Bookkeeping(name)
	}) {
		return
	}
	if state.Lock(false) != nil {
		return
	}
	defer state.Unlock() //nolint:errcheck // the descriptor is closed soon
	if state.checkLinked() == nil {
		op.clearState(ctx, state)
	}
}

// clearState deletes trash, stage, and what building a stage needed. The shard is
// published and its user registered: what is left now, the next call deletes.
func (op *operation) clearState(ctx context.Context, state *stateDir) {
	err := errs.Join(copier.RemoveStage(ctx, state.File, op.Jobs), copier.DropPlan(ctx, state.File),
		verify.DropUncommitted(state.File), state.clearTrash(ctx, op.Jobs))
	if err != nil {
		op.warn("shard %s is on ssd and %q registered, but what a copy left in %s could not be deleted: %v",
			op.name, op.ID, state.Path(), err)
	}
}

// dropNewUserFile removes the user file that this call has made, after it failed:
// an empty one would say that somebody managed the shard.
func (op *operation) dropNewUserFile(err error) error {
	if op.user == nil || op.user.Existed() || len(op.user.Users()) > 0 {
		return err
	}
	return errs.Join(err, op.user.Remove())
}

func (op *operation) register() error {
	added, err := op.user.Register(op.ID)
	switch {
	case err == nil:
		return nil
	case added:
		return fmt.Errorf("%w; %q is registered, run it again to be sure", err, op.ID)
	}
	return fmt.Errorf("%w; shard %s is on ssd, but %q is not registered: run it again", err, op.name, op.ID)
}

// copy makes, proves and publishes a copy, and registers the user.
func (op *operation) copy(ctx context.Context, found presence) error {
	src, err := op.openSource()
	if err != nil {
		return err
	}
	defer src.Close() //nolint:errcheck // opened for reading
	var state *stateDir
	err = op.withRoom(ctx, func() (err error) {
		state, err = op.lockState(ctx)
		return err
	})
	if err != nil {
		return err
	}
	defer state.close() //nolint:errcheck // gives the flock back; nothing was written through it
	err = op.build(ctx, src, state)
	if err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return op.afterFailure(ctx, state, err)
	}
	// From the rename in publish until the user is registered no signal is looked
	// at: whoever sees the shard must be able to rely on its user.
	if err := op.timed("publish", func() error { return op.publish(context.WithoutCancel(ctx), state, found) }); err != nil {
		return op.afterFailure(ctx, state, err)
	}
	if err := op.register(); err != nil {
		return err
	}
	op.result.Outcome = Copied
	op.clearState(ctx, state)
	op.info("Copied shard %s: %d files, %d bytes (%s) in %.1f s, read back: %s", op.name,
		op.result.Files, op.result.Bytes, humanize.Size(op.result.Bytes), time.Since(op.started).Seconds(), op.result.ReadBack)
	return nil
}

// openSource opens the shard where it comes from.
func (op *operation) openSource() (*copier.Source, error) {
	src, err := copier.OpenSource(op.Shard)
	if err != nil {
		return nil, err
	}
	if err := op.checkApart(src); err != nil {
		src.Close() //nolint:errcheck // opened for reading
		return nil, err
	}
	return src, nil
}

// checkApart refuses a source, an SSD dir and a lock dir that lie in each other:
// the copy would be of itself, or delete what it comes from or its own user file.
// Of bind mounts it sees one of the published shard itself; a part of it, or of the
// SSD dir, that is mounted elsewhere, it does not see.
func (op *operation) checkApart(src *copier.Source) error {
	from, err := sys.RealPath(op.Shard)
	if err != nil {
		return err
	}
	ssd, err := sys.RealPath(op.SSDDir)
	if err != nil {
		return err
	}
	switch {
	case inside(from, ssd):
		return fmt.Errorf("source %q is inside the SSD dir %q", op.Shard, op.SSDDir)
	case inside(ssd, from):
		return fmt.Errorf("SSD dir %q is inside the source %q", op.SSDDir, op.Shard)
	case inside(op.lockDir, from):
		return fmt.Errorf("lock dir %q is inside the source %q", op.LockDir, op.Shard)
	case inside(op.lockDir, ssd+"/"+op.name), inside(op.lockDir, ssd+"/"+stateRootName):
		return fmt.Errorf("lock dir %q is inside what is replaced and deleted with shard %s", op.LockDir, op.name)
	}
	pub, err := op.published()
	if err == nil && pub != nil && src.Stat.SameFile(pub) {
		err = fmt.Errorf("source %q is the published shard itself, %s/%s", op.Shard, op.SSDDir, op.name)
	}
	return err
}

// build brings a complete stage with its manifest onto stable storage.
func (op *operation) build(ctx context.Context, src *copier.Source, state *stateDir) error {
	if err := state.clearTrash(ctx, op.Jobs); err != nil {
		return err
	}
	var plan *copier.Plan
	err := op.timed("plan", func() error {
		return op.withRoom(ctx, func() (err error) {
			plan, err = copier.MakePlan(ctx, src, state.File)
			return err
		})
	})
	if err != nil {
		return err
	}
	defer plan.Close() //nolint:errcheck // not needed after
	op.sayPlan(plan)
	stage, err := op.openStage(ctx, plan)
	if err != nil {
		return err
	}
	defer stage.Close() //nolint:errcheck // the journal is not needed after
	if err := op.copyAndReadBack(ctx, plan, stage); err != nil {
		return err
	}
	return op.timed("manifest", func() error { return op.writeManifest(ctx, src, plan, stage, state) })
}

// openStage opens the stage and sees to it that there is space for the rest of it.
func (op *operation) openStage(ctx context.Context, plan *copier.Plan) (stage *copier.Stage, err error) {
	err = op.timed("stage", func() (err error) {
		if stage, err = plan.OpenStage(ctx, !op.NoResume, op.Jobs); err != nil {
			return err
		}
		op.sayStage(stage, plan)
		if err = op.findSpace(ctx, plan, stage); err != nil {
			stage.Close() //nolint:errcheck // the journal is not needed after
		}
		return err
	})
	return stage, err
}

// timed runs a step and adds its time to the phases.
func (op *operation) timed(phase string, step func() error) error {
	start := time.Now()
	err := step()
	op.phase(Phase{Name: phase, Seconds: time.Since(start).Seconds()})
	return err
}

func (op *operation) sayPlan(p *copier.Plan) {
	if p.Escaping > 0 {
		op.warn("%d symbolic links lead out of shard %s, the first is %q: who follows them does not read from the SSD",
			p.Escaping, op.name, p.FirstEscaping)
	}
	if p.SkippedXattrs > 0 {
		op.warn("%d extended attributes of shard %s are not carried, the first is %q", p.SkippedXattrs, op.name, p.FirstSkipped)
	}
}

func (op *operation) sayStage(s *copier.Stage, p *copier.Plan) {
	switch {
	case s.Resumed:
		op.info("Going on with an interrupted copy of shard %s: %d of %d bytes (%s) are kept", op.name, s.Kept, p.Bytes, humanize.Size(s.Kept))
	case s.Discarded && op.NoResume:
		op.info("Discarded an interrupted copy of shard %s, as told", op.name)
	case s.Discarded:
		op.info("Discarded an interrupted copy of shard %s: its source has changed since, or it is damaged or of another version", op.name)
	}
}

func (op *operation) copyAndReadBack(ctx context.Context, plan *copier.Plan, stage *copier.Stage) error {
	pace := pool.NewPace(ctx, op.Bandwidth)
	medium := &verify.Medium{Own: true, Pace: pace}
	op.result.Jobs = op.Jobs
	op.chooseTransfers()
	done, err := plan.Copy(ctx, stage, copier.Options{
		Jobs: op.Jobs, Engine: op.Engine, ReadBack: readBack{medium}, Observer: op.Observer, Pace: pace})
	op.result.Files, op.result.Bytes, op.result.ResumedBytes = plan.Files, plan.Bytes, done.Resumed
	op.result.ReadBack = string(medium.Mode())
	for _, p := range done.Phases {
		op.phase(Phase{p.Name, p.Took.Seconds(), p.Bytes})
	}
	op.result.Engines = map[string]Usage{}
	for engine, u := range done.Engines {
		op.result.Engines[string(engine)] = Usage{u.Files, u.Bytes}
	}
	op.choseEngines(done.Engines)
	return err
}

// readBack lets the copier have its blocks read by the checker.
type readBack struct{ *verify.Medium }

func (r readBack) Open(dir *sys.File, name string, size int64) (copier.BlockReader, error) {
	f, err := r.Medium.Open(dir, name, size)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// afterFailure removes what a retry cannot use, and says in the error what is
// left on disk.
func (op *operation) afterFailure(ctx context.Context, state *stateDir, err error) error {
	final := context.WithoutCancel(ctx)
	var damage *copier.DamageError
	var space *copier.SpaceError
	switch {
	case errors.As(err, &damage):
		err = asKind(err, ErrDamaged)
	case op.visible: // nothing of the stage is left
		return err
	case errors.As(err, &space), sys.NoSpace(err):
		err = asKind(err, ErrNoSpace)
	case errors.Is(err, errNotReplaced), errors.Is(err, copier.ErrSourceChanged), errors.Is(err, copier.ErrRefused), errors.Is(err, ErrDamaged):
	default:
		return op.keepStage(final, state, err)
	}
	if removed := op.tidy(final, state, true); removed != nil {
		return fmt.Errorf("%w; the stage could not be removed: %w", err, removed)
	}
	return fmt.Errorf("%w; nothing of the copy was left on the SSD", err)
}

func (op *operation) keepStage(ctx context.Context, state *stateDir, err error) error {
	if there, statErr := state.has(copier.StageName); !there || statErr != nil {
		return errs.Join(err, statErr, op.tidy(ctx, state, false))
	}
	return fmt.Errorf("%w; what was copied is kept in %s for the next -c", err, state.Path())
}

// tidy removes the stage, if told, with what belongs to it, and the state dir
// unless it has a manifest, also one that cannot be read, and something that it
// may be of.
func (op *operation) tidy(ctx context.Context, state *stateDir, stage bool) error {
	if stage {
		if err := copier.RemoveStage(ctx, state.File, op.Jobs); err != nil {
			return err
		}
	}
	pub, err := op.published()
	if err != nil {
		return err
	}
	tells, err := state.has(verify.ManifestName)
	if err != nil {
		return err
	}
	if pub == nil || !tells {
		return state.remove(ctx, op.Jobs)
	}
	return errs.Join(copier.DropJournal(ctx, state.File), copier.DropPlan(ctx, state.File), verify.DropUncommitted(state.File))
}
