package published

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"shard_to_ssd/copier"
	"shard_to_ssd/internal/errs"
	"shard_to_ssd/internal/statedir"
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/tree"
)

// Errors of Publish and Replace that leave something behind.
var (
	// ErrNotReplaced reports a failed exchange. The journal is gone: the stage
	// cannot be resumed.
	ErrNotReplaced = errors.New("replace the shard on the SSD")
	// ErrNotDurable reports a shard that has its public name, but may lose it in a
	// power cut.
	ErrNotDurable = errors.New("published, but not durable")
)

// Publish makes the complete stage visible under the public name, which must be
// free, in one rename, and makes that durable.
func (s Shard) Publish(state *statedir.Dir) error {
	return s.makeVisible(state, func() error {
		return tree.Move(state.File, copier.StageName, s.SSD, s.Name, sys.NoReplace)
	})
}

// Replace makes the complete stage visible in the place of the old tree under the public
// name. The old tree becomes trash in the same moment: the stage is renamed to the
// name of trash, and then the two are exchanged. The journal goes first, so that no
// process takes the old tree for a stage to resume.
func (s Shard) Replace(ctx context.Context, state *statedir.Dir) error {
	return s.makeVisible(state, func() error { return s.exchange(ctx, state) })
}

func (s Shard) makeVisible(state *statedir.Dir, rename func() error) error {
	stage, err := state.StatAt(copier.StageName)
	if err != nil {
		return err
	}
	err = rename()
	switch {
	case errors.Is(err, ErrNotReplaced):
		return err
	case sys.IsErrno(err, unix.EEXIST):
		return fmt.Errorf("publish: %w: another process made it while the shard was copied", err)
	case err != nil:
		return fmt.Errorf("publish: %w", err)
	}
	for _, step := range []func() error{func() error { return s.restoreTimes(&stage) }, s.SSD.Sync, state.Sync} {
		if err := step(); err != nil {
			return errs.WithKind(fmt.Errorf("shard %s was published as %s, but that could not be made durable: %w; no user was registered: run -c again",
				s.Name, s, err), ErrNotDurable)
		}
	}
	return nil
}

func (s Shard) exchange(ctx context.Context, state *statedir.Dir) error {
	if err := state.Clear(ctx, statedir.Journal, 1); err != nil {
		return err
	}
	if err := state.RenameAt(copier.StageName, state.File, statedir.TrashName, sys.NoReplace); err != nil {
		return err
	}
	err := tree.Move(state.File, statedir.TrashName, s.SSD, s.Name, sys.Exchange)
	if err == nil {
		return nil
	}
	back := state.RenameAt(statedir.TrashName, state.File, copier.StageName, sys.NoReplace)
	return errs.Join(fmt.Errorf("%w: %w", ErrNotReplaced, err), back)
}

// restoreTimes gives the shard the times that it had as the stage: in an exchange,
// XFS takes the new ".." of a directory for a change of it. A crash before this
// leaves an orphan that differs from its manifest.
func (s Shard) restoreTimes(stage *sys.Stat) error {
	if now, err := s.SSD.StatAt(s.Name); err == nil && now.Mtime == stage.Mtime {
		return nil
	}
	if err := s.SSD.SetTimesAt(s.Name, stage.Atime, stage.Mtime); err != nil {
		return err
	}
	return s.SSD.SyncFS() // a directory without read permission cannot be opened to sync it
}

// MoveToTrash renames the shard away from its public name. Clearing the trash
// makes that durable before it deletes anything. jobs bounds the goroutines that
// delete older trash.
func (s Shard) MoveToTrash(ctx context.Context, state *statedir.Dir, jobs int) error {
	err := state.Clear(ctx, statedir.Trash, jobs)
	if err == nil {
		err = tree.Move(s.SSD, s.Name, state.File, statedir.TrashName, sys.NoReplace)
	}
	if err != nil {
		return fmt.Errorf("remove shard %s: %w; it keeps its place, without users", s.Name, err)
	}
	return nil
}
