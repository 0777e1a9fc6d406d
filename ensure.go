package shardtossd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"shard_to_ssd/copier"
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
		if err != nil {
			err = op.dropNewUserFile(err)
		}
	}()
	state, err := op.openStateIfThere()
	if err != nil {
		return err
	}
	found, err := op.lookFor(ctx, state)
	if err == nil && found == present {
		op.info("Shard %s is already on ssd", op.name)
		op.result.Outcome = AlreadyOnSSD
		err = errors.Join(op.noteStale(state), op.clearOldTrash(ctx, state))
	}
	if state != nil {
		err = errors.Join(err, state.close())
	}
	switch {
	case err != nil:
		return err
	case found == present:
		return op.register()
	}
	op.info("Starting copy shard %s to ssd", op.name)
	return op.copy(ctx, found)
}

// clearOldTrash deletes what a crash has left of an earlier replacement.
func (op *operation) clearOldTrash(ctx context.Context, state *stateDir) error {
	if state == nil {
		return nil
	}
	there, err := state.has(trashName)
	if !there || err != nil {
		return err
	}
	if err := state.lock(ctx); err != nil {
		return err
	}
	return state.clearTrash(ctx, op.Jobs)
}

// dropNewUserFile removes the user file that this call has made, after it failed:
// an empty one would say that somebody managed the shard.
func (op *operation) dropNewUserFile(err error) error {
	if op.user.Existed() || len(op.user.Users()) > 0 {
		return err
	}
	return errors.Join(err, op.user.Remove())
}

func (op *operation) register() error {
	_, err := op.user.Register(op.ID)
	if err != nil {
		return fmt.Errorf("register %q: %w; shard %s is on ssd, but nobody is registered by this call: run it again", op.ID, err, op.name)
	}
	return nil
}

// copy makes, proves and publishes a copy, and registers the user.
func (op *operation) copy(ctx context.Context, found presence) error {
	src, err := op.openSource()
	if err != nil {
		return err
	}
	defer src.Close() //nolint:errcheck // opened for reading
	state, err := op.lockState(ctx)
	if err != nil {
		return err
	}
	defer state.close() //nolint:errcheck // gives the flock back; nothing was written through it
	if err := op.build(ctx, src, state); err != nil {
		return op.afterFailure(ctx, state, err)
	}
	// From here on signals wait: the shard becomes visible, its user must follow.
	ctx = context.WithoutCancel(ctx)
	if err := op.publish(state, found); err != nil {
		return op.afterFailure(ctx, state, err)
	}
	op.result.Outcome = Copied
	if err := op.register(); err != nil {
		return err
	}
	return op.clean(ctx, state)
}

// openSource opens the shard where it comes from.
func (op *operation) openSource() (*copier.Source, error) {
	src, err := copier.OpenSource(op.Shard)
	if err != nil {
		return nil, err
	}
	from, err := realPath(op.Shard)
	if err == nil {
		var ssd string
		if ssd, err = realPath(op.SSDDir); err == nil {
			switch {
			case inside(from, ssd):
				err = fmt.Errorf("source %q is inside the SSD dir %q", op.Shard, op.SSDDir)
			case inside(ssd, from):
				err = fmt.Errorf("SSD dir %q is inside the source %q", op.SSDDir, op.Shard)
			}
		}
	}
	if err != nil {
		src.Close() //nolint:errcheck // opened for reading
		return nil, err
	}
	return src, nil
}

// build brings a complete stage with its manifest onto stable storage.
func (op *operation) build(ctx context.Context, src *copier.Source, state *stateDir) error {
	if err := state.clearTrash(ctx, op.Jobs); err != nil {
		return err
	}
	plan, err := timed(op, "plan", func() (*copier.Plan, error) { return copier.MakePlan(ctx, src, state.File) })
	if err != nil {
		return err
	}
	defer plan.Close() //nolint:errcheck // not needed after
	op.sayPlan(plan)
	stage, err := plan.OpenStage(ctx, !op.NoResume, op.Jobs)
	if err != nil {
		return err
	}
	defer stage.Close() //nolint:errcheck // the journal is not needed after
	op.sayStage(stage, plan)
	if err := op.findSpace(ctx, plan, stage); err != nil {
		return err
	}
	if err := op.copyAndReadBack(ctx, plan, stage); err != nil {
		return err
	}
	_, err = timed(op, "manifest", func() (struct{}, error) {
		return struct{}{}, op.writeManifest(ctx, src, plan, stage, state)
	})
	return err
}

// timed runs a step and adds its time to the phases.
func timed[T any](op *operation, phase string, step func() (T, error)) (T, error) {
	start := time.Now()
	v, err := step()
	op.result.Phases = append(op.result.Phases, Phase{phase, time.Since(start).Seconds()})
	return v, err
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
		op.info("Going on with an interrupted copy of shard %s: %d of %d bytes (%s) are kept", op.name, s.Kept, p.Bytes, size(s.Kept))
	case s.Discarded && op.NoResume:
		op.info("Discarded an interrupted copy of shard %s, as told", op.name)
	case s.Discarded:
		op.info("Discarded an interrupted copy of shard %s: its source has changed since, or it is damaged or of another version", op.name)
	}
}

func (op *operation) copyAndReadBack(ctx context.Context, plan *copier.Plan, stage *copier.Stage) error {
	medium := &verify.Medium{}
	op.result.Jobs = op.Jobs
	done, err := plan.Copy(ctx, stage, copier.Options{
		Jobs: op.Jobs, Engine: op.Engine, ReadBack: readBack{medium}, Observer: op.Observer})
	op.result.Files, op.result.Bytes, op.result.ResumedBytes = plan.Files, plan.Bytes, done.Resumed
	op.result.ReadBack = string(medium.Mode())
	for _, p := range done.Phases {
		op.result.Phases = append(op.result.Phases, Phase{p.Name, p.Took.Seconds()})
	}
	op.result.Engines = map[string]Usage{}
	for engine, u := range done.Engines {
		op.result.Engines[string(engine)] = Usage(u)
	}
	return err
}

// readBack lets the copier have its blocks read by the checker.
type readBack struct{ medium *verify.Medium }

func (r readBack) Open(dir *sys.File, name string, size int64) (copier.BlockReader, error) {
	f, err := r.medium.Open(dir, name, size)
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
	case errors.As(err, &space), sys.NoSpace(err):
		err = asKind(err, ErrNoSpace)
	case errors.Is(err, copier.ErrSourceChanged), errors.Is(err, copier.ErrRefused), errors.Is(err, ErrDamaged):
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
		return errors.Join(err, statErr, op.tidy(ctx, state, false))
	}
	return fmt.Errorf("%w; what was copied is kept in %s for the next -c", err, state.Path())
}

// tidy removes the stage, if told, and the state dir if there is nothing in it
// that still means something: a manifest of what is published.
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
	m, err := op.boundManifest(state, pub)
	if err != nil {
		return err
	}
	if m == nil {
		return state.remove(ctx, op.Jobs)
	}
	return errors.Join(m.Close(), copier.DropPlan(state.File))
}

// clean removes what was needed to build the copy, and what it replaced.
func (op *operation) clean(ctx context.Context, state *stateDir) error {
	err := errors.Join(copier.DropJournal(state.File), copier.DropPlan(state.File), state.clearTrash(ctx, op.Jobs))
	if err != nil {
		op.warn("shard %s is on ssd and %q registered, but what the copy left could not be removed: %v", op.name, op.ID, err)
	}
	op.info("Copied shard %s: %d files, %d bytes (%s) in %.1f s, read back: %s", op.name,
		op.result.Files, op.result.Bytes, size(op.result.Bytes), time.Since(op.started).Seconds(), op.result.ReadBack)
	return nil
}
