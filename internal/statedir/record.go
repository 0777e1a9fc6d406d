package statedir

import (
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/errs"
	"shard_to_ssd/internal/sys"
)

// lockDirName is the record of the lock dir that the state dir was made with.
const lockDirName = "lockdir"

// maxRecord is the most bytes of a record that are read: a path has at most 4096.
const maxRecord = 8192

// readRecord returns the text of a short file.
func (d *Dir) readRecord(name string) (string, error) {
	f, err := d.OpenAt(name, unix.O_RDONLY, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	buf := make([]byte, maxRecord)
	n, err := f.ReadAt(buf, len(buf), 0)
	return string(buf[:n]), err
}

// writeRecord replaces a short file by way of a temporary name. The file is
// complete, or unchanged. Processes that do not hold the lock need a temporary
// name each.
func (d *Dir) writeRecord(temporary, name, text string) error {
	err := d.writeSynced(temporary, text)
	if err == nil {
		err = d.RenameAt(temporary, d.File, name, sys.Replace)
	}
	if err != nil {
		return errs.Join(err, d.UnlinkIfExists(temporary))
	}
	return nil
}

func (d *Dir) writeSynced(name, text string) error {
	f, err := d.OpenAt(name, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	err = f.WriteAt([]byte(text), 0)
	if err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	return err
}

// RecordLockDir records the lock dir that the state dir belongs to, unless it is
// recorded already. The state dir must be locked.
func (d *Dir) RecordLockDir(lockDir string) error {
	recorded, err := d.readRecord(lockDirName)
	if err == nil && recorded != "" {
		return d.CheckLockDir(lockDir)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := d.writeRecord(lockDirName+".new", lockDirName, lockDir); err != nil {
		_ = d.root.RmdirAt(d.name) // succeeds only if the state dir is new, and empty
		return err
	}
	return d.Sync()
}

// CheckLockDir refuses a state dir that belongs to another lock dir: with two of
// them there would be two lists of users of one shard.
func (d *Dir) CheckLockDir(lockDir string) error {
	recorded, err := d.readRecord(lockDirName)
	if errors.Is(err, fs.ErrNotExist) || (err == nil && recorded == "") {
		return nil
	}
	if err != nil {
		return err
	}
	if recorded != lockDir {
		return fmt.Errorf("shard %q belongs to the lock dir %q, not to %q: its users are recorded there", d.name, recorded, lockDir)
	}
	return nil
}
