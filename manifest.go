package shardtossd

import (
	"context"
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
