package published

import (
	"context"

	"shard_to_ssd/copier"
	"shard_to_ssd/internal/statedir"
	"shard_to_ssd/internal/tree"
	"shard_to_ssd/verify"
)

// WriteEntries makes of each record of the plan one of the manifest, with the checksums
// that the journal of the stage has, and finishes the manifest.
func (s Shard) WriteEntries(ctx context.Context, w *verify.ManifestWriter, plan *copier.Plan, stage *copier.Stage) error {
	err := plan.EachEntry(ctx, func(entry *copier.PlanEntry) error {
		r := entry.Record
		if r.Kind != tree.Regular {
			return w.WriteRecord(&r, 0)
		}
		if stage.IsFile() {
			r.Name = s.Name // even if the source was given as a link to a file
		}
		return writeRegular(w, stage, entry, &r)
	})
	if err != nil {
		return err
	}
	return w.Finish()
}

func writeRegular(w *verify.ManifestWriter, stage *copier.Stage, entry *copier.PlanEntry, r *tree.Record) error {
	whole, err := stage.FileSum(entry)
	if err != nil {
		return err
	}
	return w.WriteRegular(r, whole, func(first, n int64) ([]uint64, error) { return stage.BlockSums(entry, first, n) })
}

// ProveStage compares names and metadata of the stage with the manifest that was made
// from the source: a mistake of the copier must not be published. Contents have been
// read back already. An entry that cannot be read is an error, but no such mistake.
func ProveStage(ctx context.Context, state *statedir.Dir, report func(verify.Difference)) error {
	m, err := verify.OpenUncommittedManifest(state.File)
	if err != nil {
		return err
	}
	defer m.Close()
	return verify.CompareTreeStrictly(ctx, m, verify.Shard{Parent: state.File, Name: copier.StageName}, report)
}
