package repair

import (
	"context"

	"shard_to_ssd/copier"
	"shard_to_ssd/internal/statedir"
	"shard_to_ssd/internal/tree"
	"shard_to_ssd/verify"
)

// Examine compares a shard, or only the entries in paths, with its manifest, and plans
// the repair of the damage. It returns the weakest mode in which the shard was read.
func Examine(ctx context.Context, checker *verify.Checker, c verify.Comparison, paths *tree.PathSet) (*Plan, verify.ReadMode, error) {
	plan, report := NewPlan(), c.Report
	c.Shard.Paths = paths
	c.Report = func(d verify.Difference) {
		plan.Add(d)
		report(d)
	}
	mode, err := checker.Compare(ctx, c)
	if err == nil && !plan.IsEmpty() {
		err = plan.Settle(c.Shard, c.Manifest)
	}
	return plan, mode, err
}

// CompareSource compares the part of a source that the plan needs with the manifest:
// contents for entries that are copied, and metadata for those repaired in place.
func (p *Plan) CompareSource(ctx context.Context, checker *verify.Checker, m *verify.Manifest, source verify.Shard, report func(verify.Difference)) error {
	source.Paths = p.Copied
	if _, err := checker.Compare(ctx, verify.Comparison{Manifest: m, Shard: source, Report: report}); err != nil {
		return err
	}
	source.Paths = p.InPlace
	return verify.CompareTree(ctx, m, source, report)
}

// CompareStage compares the new copies with the manifest, read from the device: the
// source may have changed since it was compared. It returns the differences that keep
// the shard from being repaired, and those of entries that cannot be read.
func (p *Plan) CompareStage(ctx context.Context, checker *verify.Checker, m *verify.Manifest, state *statedir.Dir) (found, unread verify.FirstDifference, err error) {
	report := func(d verify.Difference) {
		switch {
		case d.Kind == verify.Unreadable:
			unread.Add(d)
		case p.Prevents(d):
			found.Add(d)
		}
	}
	stage := verify.Shard{Parent: state.File, Name: copier.StageName, Paths: p.Copied}
	if err := verify.CompareTreeStrictly(ctx, m, stage, report); err != nil || found.Count > 0 {
		return found, unread, err
	}
	_, err = checker.Compare(ctx, verify.Comparison{Manifest: m, Shard: stage, Exclusive: true, Report: report})
	return found, unread, err
}
