package tree

import (
	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/errs"
	"shard_to_ssd/internal/sys"
)

// Move renames an entry from one directory to another, as sys.File.RenameAt does.
// A process that is not root must be able to write to a directory to give it
// another parent: a read-only directory is made writable for the moment.
func Move(from *sys.File, name string, to *sys.File, newName string, flags uint) error {
	err := from.RenameAt(name, to, newName, flags)
	if !sys.IsErrno(err, unix.EACCES) {
		return err
	}
	restore := makeWritable(from, name)
	if flags == sys.Exchange {
		restoreOther := makeWritable(to, newName)
		defer func() { _ = restoreOther() }() // it is trash now, or has kept its place
	}
	err = from.RenameAt(name, to, newName, flags)
	return errs.Join(err, restore())
}

// makeWritable lets the owner write to a directory until restore is called. If it
// fails, the rename that follows fails too, and says why.
func makeWritable(parent *sys.File, name string) (restore func() error) {
	nothing := func() error { return nil }
	d, err := parent.OpenDirAt(name)
	if err != nil {
		return nothing
	}
	s, err := d.Stat()
	if err != nil || d.Chmod(s.Perm()|0o700) != nil {
		d.Close()
		return nothing
	}
	return func() error {
		defer d.Close()
		return errs.Join(d.Chmod(s.Perm()), d.Sync())
	}
}
