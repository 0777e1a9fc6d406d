package shardtossd

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"shard_to_ssd/copier"
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/tree"
	"shard_to_ssd/verify"
)

// writeManifest records what the stage holds, holds the stage against the
// record, and brings both onto stable storage.
func (op *operation) writeManifest(ctx context.Context, src *copier.Source, plan *copier.Plan, stage *copier.Stage, state *stateDir) error {
	root, err := state.StatAt(copier.StageName)
	if err != nil {
		return err
	}
	path, err := sys.RealPath(op.Shard)
	if err != nil {
		return err
	}
	w, err := verify.NewWriter(state.File, &verify.Header{
		Tool: op.Version, Shard: op.name, Root: verify.RootOf(&root),
		Source: path, Origin: verify.Identity{Dev: src.Stat.Dev, Ino: src.Stat.Ino, Mtime: src.Stat.Mtime},
		LockDir: op.lockDir, Time: time.Now(), Files: plan.Files, Entries: plan.Entries(), Bytes: plan.Bytes,
	})
	if err != nil {
		return err
	}
	defer w.Close() //nolint:errcheck // closed below where it counts
	if err := stage.SyncJournal(); err != nil {
		return err
	}
	if err := op.writeEntries(ctx, w, plan, stage); err != nil {
		return err
	}
	// One waits for the disk, the other for names and inodes in memory.
	var both errgroup.Group
	both.Go(func() error { return op.proveStage(ctx, state) })
	both.Go(func() error { return plan.SyncStage(w.Files()...) })
	if err := both.Wait(); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	if err := w.Commit(); err != nil {
		return err
	}
	if err := state.Sync(); err != nil {
		return err
	}
	// Whoever made the state dir may have died before its name was durable.
	return state.root.Sync()
}

// writeEntries makes of each record of the plan one of the manifest, with the
// sums that the journal has.
func (op *operation) writeEntries(ctx context.Context, w *verify.Writer, plan *copier.Plan, stage *copier.Stage) error {
	err := plan.Each(ctx, func(it *copier.Item) error {
		r := it.Record
		if r.Kind != tree.Regular {
			return w.Write(&r, 0)
		}
		if stage.IsFile() {
			r.Name = op.name // of the shard, also if it was given as a link to a file
		}
		return op.writeRegular(w, stage, it, &r)
	})
	if err != nil {
		return err
	}
	return w.Finish()
}

func (op *operation) writeRegular(w *verify.Writer, stage *copier.Stage, it *copier.Item, r *tree.Record) error {
	whole, err := stage.Sum(it)
	if err != nil {
		return err
	}
	return w.WriteRegular(r, whole, func(first, n int64) ([]uint64, error) { return stage.BlockSums(it, first, n) })
}

// proveStage holds names and metadata of the stage against the manifest that was
// made of the source: a mistake of the copier must not be published. Contents
// have been read back already. An entry that cannot be read is no such mistake.
func (op *operation) proveStage(ctx context.Context, state *stateDir) error {
	m, err := verify.OpenNewManifest(state.File)
	if err != nil {
		return err
	}
	defer m.Close() //nolint:errcheck // opened for reading
	var found firstOf
	err = verify.ProveTree(ctx, m, verify.Shard{In: state.File, Name: copier.StageName}, found.add)
	if err != nil || found.count == 0 {
		return err
	}
	return &kindError{ErrDamaged, fmt.Errorf("the copy differs from the source in %v", &found)}
}
