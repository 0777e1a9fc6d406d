package shardtossd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"shard_to_ssd/copier"
	"shard_to_ssd/internal/errs"
	"shard_to_ssd/internal/published"
	"shard_to_ssd/internal/statedir"
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/verify"
)

// manifestHeader returns the header of a manifest for a tree that is about to be, or
// is, published.
func (op *operation) manifestHeader(root, from *sys.Stat, source string, plan *copier.Plan) *verify.Header {
	return &verify.Header{
		Shard: op.shard.Name, Root: verify.RootIdentityOf(root),
		Source: source, Origin: verify.SourceIdentity{Dev: from.Dev, Ino: from.Ino, Mtime: from.Mtime},
		LockDir: op.lockDir, Time: time.Now(), Files: plan.Files, Entries: plan.Entries(), Bytes: plan.Bytes,
	}
}

// writeManifest records the contents of the stage, compares the stage with the record,
// and brings both onto stable storage.
func (e *ensuring) writeManifest(ctx context.Context, src *copier.Source, plan *copier.Plan, stage *copier.Stage, state *statedir.Dir) error {
	root, err := state.StatAt(copier.StageName)
	if err != nil {
		return err
	}
	path, err := sys.RealPath(e.options.Shard)
	if err != nil {
		return err
	}
	header := e.manifestHeader(&root, &src.Stat, path, plan)
	header.Tool = e.options.Version
	w, err := verify.NewManifestWriter(state.File, header)
	if err != nil {
		return err
	}
	defer func() { _ = w.Close() }() // again, unless an error came first
	if err := stage.SyncJournal(); err != nil {
		return err
	}
	if err := e.shard.WriteEntries(ctx, w, plan, stage); err != nil {
		return err
	}
	// One waits for the disk, the other for names and inodes in memory.
	var both errgroup.Group
	both.Go(func() error { return e.proveStage(ctx, state) })
	both.Go(func() error { return plan.SyncStage(w.OpenFiles()...) })
	if err := both.Wait(); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	if err := w.Commit(); err != nil {
		return err
	}
	return state.SyncAll()
}

// proveStage refuses a stage that differs from its manifest.
func (e *ensuring) proveStage(ctx context.Context, state *statedir.Dir) error {
	var found verify.FirstDifference
	if err := published.ProveStage(ctx, state, found.Add); err != nil || found.Count == 0 {
		return err
	}
	return errs.WithKind(fmt.Errorf("the copy differs from the source in %v", &found), ErrDamaged)
}

// openManifest opens the manifest that is bound to the shard under the public name. It
// returns nil without a usable manifest, and reports one that cannot be used.
func (op *operation) openManifest(state *statedir.Dir, pub *sys.Stat) (*verify.Manifest, error) {
	m, err := op.shard.OpenManifest(state, pub)
	switch {
	case errors.Is(err, published.ErrNoManifest):
		return nil, nil
	case published.IsUnusable(err):
		op.warn("%v", err)
		return nil, nil
	}
	return m, err
}

// isBound reports whether a usable manifest is bound to the shard under the public name.
func (op *operation) isBound(pub *sys.Stat) (bool, error) {
	state, err := op.openState()
	if err != nil {
		return false, err
	}
	defer state.Close()
	return op.hasBoundManifest(state, pub)
}

func (op *operation) hasBoundManifest(state *statedir.Dir, pub *sys.Stat) (bool, error) {
	m, err := op.openManifest(state, pub)
	if m == nil || err != nil {
		return false, err
	}
	return true, m.Close()
}

// openManifestOf opens the manifest of the shard that Stat has found. The error is
// ErrNotPublished without a manifest, or if the manifest is bound to something else.
func (op *operation) openManifestOf(ctx context.Context, pub *sys.Stat) (*statedir.Dir, *verify.Manifest, error) {
	state, err := statedir.OpenIfExists(op.shard.SSD, op.shard.Name)
	if err != nil {
		return nil, nil, err
	}
	m, err := op.shard.OpenManifest(state, pub)
	if errors.Is(err, published.ErrNoManifest) {
		err = op.errNoManifest(ctx, state)
	}
	if err != nil {
		state.Close()
		return nil, nil, op.manifestError(err)
	}
	return state, m, nil
}

// errNoManifest returns ErrNotPublished, or the damage of a manifest: a damaged one may
// seem to be bound to something else.
func (op *operation) errNoManifest(ctx context.Context, state *statedir.Dir) error {
	if state != nil {
		if err := verify.CheckManifest(ctx, state.File); err != nil {
			return err
		}
	}
	return errs.WithKind(fmt.Errorf("shard %s in %s has no manifest: this tool did not publish it, and cannot tell whether it is damaged; "+
		"--adopt compares it with its source and makes one", op.shard.Name, op.SSDDir), ErrNotPublished)
}

// manifestError tells a manifest that is damaged from a shard that is.
func (op *operation) manifestError(err error) error {
	if !errors.Is(err, verify.ErrManifestDamaged) || verify.IsProcessError(err) {
		return err
	}
	return errs.WithKind(fmt.Errorf("the manifest of shard %s is damaged, which says nothing about the shard: %w", op.shard.Name, err), ErrDamagedManifest)
}

// recordVerify records the result of a verification in the state dir.
func (op *operation) recordVerify(state *statedir.Dir, m *verify.Manifest, r statedir.VerifyRecord) {
	if err := state.RecordVerify(m, r); err != nil {
		op.warn("cannot record the verification of shard %s: %v", op.shard.Name, err)
	}
}
