package shardtossd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"shard_to_ssd/copier"
	"shard_to_ssd/internal/errs"
	"shard_to_ssd/internal/humanize"
	"shard_to_ssd/internal/published"
	"shard_to_ssd/internal/statedir"
	"shard_to_ssd/locking"
)

// Ensure copies the shard to the SSD if it is not there, and registers the user.
//
//	lock → present? ─yes───────────────────────────────────────────────────► register → unlock
//	          └no─► walk → plan → copy ⇄ read back → manifest → publish ──┘
//
// If ctx ends before the shard is published, nothing is published and no user is
// registered; the next Ensure resumes the copy. Errors: ErrUsage, ErrLockTimeout,
// ErrNoSpace, ErrDamaged, ErrForeign, ErrSourceChanged, ErrSourceRefused, the cause of
// ctx, or any other failure.
func Ensure(ctx context.Context, o EnsureOptions) (*EnsureResult, error) {
	e := &ensuring{operation: newOperation(o.Host, o.Work), options: o}
	e.transfer = transfer{operation: e.operation, engine: o.Engine}
	e.lockTimeout, e.needsLockDir = o.LockTimeout, true
	err := e.perform(func() error { return e.beginUser(o.Shard, o.ID) }, func() error { return e.run(ctx) })
	return &EnsureResult{Summary: e.summary, Transfer: e.transfer.result, Stale: e.stale}, err
}

// ensuring is one call of Ensure.
type ensuring struct {
	*operation
	options  EnsureOptions
	transfer transfer
	stale    bool
	visible  bool // the shard has its public name: its user file must stay
}

func (e *ensuring) run(ctx context.Context) (err error) {
	if err := e.refuseForeign(); err != nil {
		return err
	}
	if err := e.lockUserFile(ctx, locking.AcquireOptions{Create: true}); err != nil {
		return err
	}
	defer func() {
		if err != nil && !e.visible {
			err = e.dropNewUserFile(err)
		}
	}()
	state, err := e.openState()
	if err != nil {
		return err
	}
	defer state.Close()
	decision, err := e.decide(ctx, state)
	if err != nil {
		return err
	}
	if decision == published.Join {
		return e.joinPresent(ctx, state)
	}
	e.info("Starting copy shard %s to ssd", e.shard.Name)
	return e.copyAndPublish(ctx, decision)
}

// joinPresent registers the user of a shard that is there.
func (e *ensuring) joinPresent(ctx context.Context, state *statedir.Dir) error {
	e.info("Shard %s is already on ssd", e.shard.Name)
	e.visible = true
	if len(e.user.Users()) == 0 { // the process that published it may have died before its syncs
		if err := errs.Join(e.shard.SSD.Sync(), state.Sync()); err != nil {
			return err
		}
	}
	if err := e.register(); err != nil {
		return err
	}
	e.summary.Outcome = AlreadyOnSSD
	if state == nil {
		return nil
	}
	e.clearBesidePresent(ctx, state)
	// The source may be on a server that does not answer: no other process waits for
	// that.
	if err := e.unlock(); err != nil {
		return err
	}
	e.checkStale(state)
	return nil
}

// clearBesidePresent deletes the leftovers of a crash, or a replacement, beside a shard
// that is present.
func (e *ensuring) clearBesidePresent(ctx context.Context, state *statedir.Dir) {
	if !state.HasLeftovers() || state.TryLock() != nil {
		return
	}
	defer func() { _ = state.Unlock() }() // closing the descriptor unlocks it, too
	if state.CheckLinked() == nil {
		e.clearState(ctx, state)
	}
}

// clearState deletes all leftovers. The shard is published and its user registered, so
// a failure is a warning: the next call tries again.
func (e *ensuring) clearState(ctx context.Context, state *statedir.Dir) {
	if err := state.Clear(ctx, statedir.All, e.Jobs); err != nil {
		e.warn("shard %s is on ssd and %q registered, but the leftovers of a copy in %s cannot be deleted: %v",
			e.shard.Name, e.options.ID, state.Path(), err)
	}
}

// dropNewUserFile deletes the user file that this call has made, after it failed: an
// empty user file would mean that the older script managed the shard.
func (e *ensuring) dropNewUserFile(err error) error {
	if e.user == nil || e.user.Existed() || len(e.user.Users()) > 0 {
		return err
	}
	return errs.Join(err, e.user.Remove())
}

func (e *ensuring) register() error {
	added, err := e.user.Register(e.options.ID)
	switch {
	case err == nil:
		return nil
	case added:
		return fmt.Errorf("%w; %q is registered, but may not be after a power cut: run -c again", err, e.options.ID)
	}
	return fmt.Errorf("%w; shard %s is on ssd, but %q is not registered: run -c again", err, e.shard.Name, e.options.ID)
}

// copyAndPublish makes, proves and publishes a copy, and registers the user.
func (e *ensuring) copyAndPublish(ctx context.Context, decision published.CopyAction) error {
	src, err := e.openSource(e.options.Shard)
	if err != nil {
		return err
	}
	defer src.Close()
	state, err := e.lockStateWithRoom(ctx)
	if err != nil {
		return err
	}
	defer state.Close()
	if err := e.buildStage(ctx, src, state); err != nil {
		return e.afterFailure(ctx, state, err)
	}
	// From the rename in publish until the user is registered, signals wait: a process
	// that sees the shard must be able to rely on its user.
	err = e.transfer.runPhase("publish", func() error { return e.publish(context.WithoutCancel(ctx), state, decision) })
	if err != nil {
		return e.afterFailure(ctx, state, err)
	}
	if err := e.register(); err != nil {
		return err
	}
	e.summary.Outcome = Copied
	e.clearState(ctx, state)
	t := &e.transfer.result
	e.info("Copied shard %s: %s, %s (%s) in %.1f s, read back: %s", e.shard.Name,
		humanize.Count(t.Files, "file"), humanize.Count(t.Bytes, "byte"), humanize.Size(t.Bytes), time.Since(e.started).Seconds(), t.ReadBack)
	return nil
}

func (e *ensuring) publish(ctx context.Context, state *statedir.Dir, decision published.CopyAction) (err error) {
	if decision == published.ReplaceIt {
		err = e.shard.Replace(ctx, state)
	} else {
		err = e.shard.Publish(state)
	}
	e.visible = err == nil || errors.Is(err, published.ErrNotDurable)
	return err
}

// buildStage brings a complete stage with its manifest onto stable storage.
func (e *ensuring) buildStage(ctx context.Context, src *copier.Source, state *statedir.Dir) error {
	if err := state.Clear(ctx, statedir.Trash, e.Jobs); err != nil {
		return err
	}
	var plan *copier.Plan
	err := e.transfer.runPhase("plan", func() error {
		return e.withRoom(ctx, func() (err error) {
			plan, err = copier.MakePlan(ctx, src, state.File)
			return err
		})
	})
	if err != nil {
		return err
	}
	defer plan.Close()
	e.reportPlan(plan)
	stage, err := e.openStage(ctx, plan)
	if err != nil {
		return err
	}
	defer stage.Close()
	if err := e.transfer.copyAndReadBack(ctx, plan, stage); err != nil {
		return err
	}
	err = e.transfer.runPhase("manifest", func() error { return e.writeManifest(ctx, src, plan, stage, state) })
	if err != nil {
		return err
	}
	return context.Cause(ctx)
}

// openStage opens the stage, and checks that the rest of the copy fits.
func (e *ensuring) openStage(ctx context.Context, plan *copier.Plan) (stage *copier.Stage, err error) {
	err = e.transfer.runPhase("stage", func() (err error) {
		if stage, err = plan.OpenStage(ctx, copier.StageOptions{Resume: !e.options.NoResume, Jobs: e.Jobs}); err != nil {
			return err
		}
		e.reportStage(stage, plan)
		if err = e.transfer.checkSpace(ctx, plan, stage); err != nil {
			stage.Close()
		}
		return err
	})
	return stage, err
}

func (e *ensuring) reportPlan(p *copier.Plan) {
	if p.EscapingSymlinks > 0 {
		e.warn("shard %s has %s to places outside of it, the first is %q: a service that follows them does not read from the SSD",
			e.shard.Name, humanize.Count(p.EscapingSymlinks, "symbolic link"), p.FirstEscapingSymlink)
	}
	if p.SkippedXattrs > 0 {
		e.warn("shard %s has %s that the copy does not carry, the first is %q",
			e.shard.Name, humanize.Count(p.SkippedXattrs, "extended attribute"), p.FirstSkippedXattr)
	}
}

func (e *ensuring) reportStage(s *copier.Stage, p *copier.Plan) {
	switch {
	case s.Resumed:
		e.info("Resuming an interrupted copy of shard %s: %d of %s (%s) are kept", e.shard.Name, s.Kept, humanize.Count(p.Bytes, "byte"), humanize.Size(s.Kept))
	case s.Discarded && e.options.NoResume:
		e.info("Discarded an interrupted copy of shard %s, as requested", e.shard.Name)
	case s.Discarded:
		e.info("Discarded an interrupted copy of shard %s: its source has changed since, or it is damaged or of another version", e.shard.Name)
	}
}

// afterFailure deletes leftovers that a retry cannot use, and adds to the error whether
// anything stays on disk.
func (e *ensuring) afterFailure(ctx context.Context, state *statedir.Dir, err error) error {
	final := context.WithoutCancel(ctx)
	if e.visible { // nothing of the stage is left
		return err
	}
	err = withPublicKind(err)
	if !canNeverPublish(err) {
		return e.keepStage(final, state, err)
	}
	if failed := e.shard.Discard(final, state, e.Jobs); failed != nil {
		return fmt.Errorf("%w; the stage could not be deleted: %w", err, failed)
	}
	return fmt.Errorf("%w; nothing of the copy was left on the SSD", err)
}

// canNeverPublish reports whether the stage is of no use to the next Ensure.
func canNeverPublish(err error) bool {
	for _, kind := range []error{ErrDamaged, ErrNoSpace, ErrSourceChanged, ErrSourceRefused, published.ErrNotReplaced} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

func (e *ensuring) keepStage(ctx context.Context, state *statedir.Dir, err error) error {
	there, statErr := state.Has(copier.StageName)
	if !there || statErr != nil {
		return errs.Join(err, statErr, e.shard.Tidy(ctx, state, e.Jobs))
	}
	return fmt.Errorf("%w; the copied part is kept in %s for the next -c", err, state.Path())
}
