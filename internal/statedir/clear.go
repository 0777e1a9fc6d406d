package statedir

import (
	"context"
	"slices"

	"golang.org/x/sys/unix"

	"shard_to_ssd/copier"
	"shard_to_ssd/internal/errs"
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/tree"
	"shard_to_ssd/verify"
)

// Leftovers is a set of the things that an operation may leave in a state dir.
type Leftovers uint8

// The leftovers, and the sets of them that operations leave.
const (
	Trash               Leftovers = 1 << iota // a tree that was renamed away to be deleted
	Stage                                     // a stage with its journal
	Journal                                   // the journal: a stage without it is never resumed
	Plan                                      // the plan of a copy
	UncommittedManifest                       // a manifest that did not get its name

	Copy      = Stage | Plan                         // of an interrupted copy
	Recording = Journal | Plan | UncommittedManifest // of the making of a manifest
	All       = Trash | Copy | UncommittedManifest
)

// Clear deletes leftovers. It tries every kind, and returns all errors. jobs bounds
// the goroutines that delete trees. The state dir must be locked.
func (d *Dir) Clear(ctx context.Context, set Leftovers, jobs int) error {
	var failed []error
	for _, step := range []struct {
		in     Leftovers
		remove func() error
	}{
		{Stage, func() error { return copier.RemoveStage(ctx, d.File, jobs) }},
		{Journal, func() error { return copier.RemoveJournal(ctx, d.File) }},
		{Plan, func() error { return copier.RemovePlan(ctx, d.File) }},
		{UncommittedManifest, func() error { return verify.DropUncommittedManifest(d.File) }},
		{Trash, func() error { return d.clearTrash(ctx, jobs) }},
	} {
		if set&step.in != 0 {
			failed = append(failed, step.remove())
		}
	}
	return errs.Join(failed...)
}

// clearTrash deletes the trash. The process that renamed it may have died before the
// rename was durable: after a power cut, half a shard would be
// back under its public name.
func (d *Dir) clearTrash(ctx context.Context, jobs int) error {
	there, err := d.Has(TrashName)
	if !there || err != nil {
		return err
	}
	if err := errs.Join(d.Sync(), d.ssd.Sync()); err != nil {
		return err
	}
	return tree.RemoveTree(ctx, d.File, TrashName, jobs)
}

// Has reports whether there is a name in the state dir.
func (d *Dir) Has(name string) (bool, error) {
	_, err := d.StatAt(name)
	if sys.IsErrno(err, unix.ENOENT) {
		return false, nil
	}
	return err == nil, err
}

// HasLeftovers reports whether Clear of All would delete anything but an
// uncommitted manifest. A state dir that cannot be read has none.
func (d *Dir) HasLeftovers() bool {
	names, err := d.ListNames(make([]byte, 4096))
	return err == nil && slices.ContainsFunc(names, func(name string) bool {
		return name == TrashName || name == copier.StageName || copier.IsPlanOrJournal(name)
	})
}

// HoldsNothing reports whether the state dir has no file but the record of its
// lock dir.
func (d *Dir) HoldsNothing() (bool, error) {
	names, err := d.ListNames(make([]byte, 4096))
	return err == nil && len(names) == 1 && names[0] == lockDirName, err
}

// Remove deletes the state dir with everything in it, the journal first so that no
// process resumes half a stage, and makes that durable. A --verify that ends at
// this moment may write its records meanwhile, two at the most.
func (d *Dir) Remove(ctx context.Context, jobs int) error {
	if err := copier.RemoveJournal(ctx, d.File); err != nil {
		return err
	}
	if err := d.clearTrash(ctx, jobs); err != nil {
		return err
	}
	err := tree.RemoveTree(ctx, d.root, d.name, jobs)
	for range 2 {
		if !sys.IsErrno(err, unix.ENOTEMPTY) {
			break
		}
		err = tree.RemoveTree(ctx, d.root, d.name, jobs)
	}
	if err != nil {
		return err
	}
	return d.root.Sync()
}
