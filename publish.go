package shardtossd

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"shard_to_ssd/copier"
	"shard_to_ssd/internal/errs"
	"shard_to_ssd/internal/sys"
)

// publish makes the stage visible as <ssddir>/<shard>, in one rename. What is
// there already becomes trash in that very moment: the stage is renamed to the
// name of trash, and then the two are exchanged. The journal goes first, so that
// nobody takes the old tree for a stage to go on with.
func (op *operation) publish(ctx context.Context, state *stateDir, found presence) error {
	root, err := state.StatAt(copier.StageName)
	if err != nil {
		return err
	}
	if found == replaceable {
		err = op.exchange(ctx, state)
	} else {
		err = moveAs(state.File, copier.StageName, op.ssd, op.name, sys.NoReplace)
	}
	if errors.Is(err, errNotReplaced) {
		return err
	}
	if sys.Is(err, unix.EEXIST) {
		return fmt.Errorf("publish: %w: somebody made it while the shard was copied", err)
	}
	if err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	op.visible = true
	if err := op.restoreTimes(&root); err != nil {
		return op.publishedBut(err)
	}
	if err := op.ssd.Sync(); err != nil {
		return op.publishedBut(err)
	}
	if err := state.Sync(); err != nil {
		return op.publishedBut(err)
	}
	return nil
}

// exchange publishes the stage in the place of what is there.
func (op *operation) exchange(ctx context.Context, state *stateDir) error {
	if err := copier.DropJournal(ctx, state.File); err != nil {
		return err
	}
	if err := state.RenameAt(copier.StageName, state.File, trashName, sys.NoReplace); err != nil {
		return err
	}
	err := moveAs(state.File, trashName, op.ssd, op.name, sys.Exchange)
	if err != nil {
		back := state.RenameAt(trashName, state.File, copier.StageName, sys.NoReplace)
		err = errs.Join(fmt.Errorf("%w: %w", errNotReplaced, err), back)
	}
	return err
}

// restoreTimes gives what was published the times that it had as the stage: XFS
// takes the new ".." of a directory for a change of it, though only in an exchange.
// A crash before leaves an orphan that differs from its manifest.
func (op *operation) restoreTimes(was *sys.Stat) error {
	if now, err := op.ssd.StatAt(op.name); err == nil && now.Mtime == was.Mtime {
		return nil
	}
	if err := op.ssd.SetTimesAt(op.name, was.Atime, was.Mtime); err != nil {
		return err
	}
	return op.ssd.SyncFS() // a directory that may not be read cannot be opened for a sync
}

// errNotReplaced is a failed exchange. The journal is gone: the stage cannot be
// gone on with.
var errNotReplaced = errors.New("replace what is on the SSD")

// moveAs is RenameAt between directories. Who is not root must be able to write
// to a directory to give it another parent: read-only ones are made writable for
// the moment.
func moveAs(from *sys.File, name string, to *sys.File, newName string, how uint) error {
	err := from.RenameAt(name, to, newName, how)
	if !sys.Is(err, unix.EACCES) {
		return err
	}
	restore := makeWritable(from, name)
	if how == sys.Exchange {
		restoreOther := makeWritable(to, newName)
		defer restoreOther() //nolint:errcheck // trash now, or as it was
	}
	err = from.RenameAt(name, to, newName, how)
	return errs.Join(err, restore())
}

// makeWritable lets the owner write to a directory until restore is called. What
// does not work shows in what is done next.
func makeWritable(in *sys.File, name string) (restore func() error) {
	nothing := func() error { return nil }
	d, err := in.OpenDirAt(name)
	if err != nil {
		return nothing
	}
	s, err := d.Stat()
	if err != nil || d.Chmod(s.Perm()|0o700) != nil {
		d.Close() //nolint:errcheck // opened for reading
		return nothing
	}
	return func() error {
		defer d.Close() //nolint:errcheck // opened for reading
		return errs.Join(d.Chmod(s.Perm()), d.Sync())
	}
}

// publishedBut is the error of a sync after the rename: the shard can be seen,
// but nobody may rely on it after a power cut.
func (op *operation) publishedBut(err error) error {
	return fmt.Errorf("shard %s was published as %s/%s, but that could not be made durable: %w; nobody was registered: run -c again",
		op.name, op.SSDDir, op.name, err)
}
