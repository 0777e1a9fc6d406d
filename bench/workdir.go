package bench

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"

	"shard_to_ssd/internal/errs"
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/tree"
)

// workDirPrefix is how the names of work directories begin.
const workDirPrefix = "ssdbench-"

// removers is how many directories are deleted at once.
const removers = 4

// workDir is the new directory under the target that all is done in. Nobody but its
// owner can look into it.
type workDir struct {
	*sys.File
	target  *sys.File
	name    string
	reserve int64 // bytes of free space that are not touched
}

// makeWorkDir makes one. Remove it.
func makeWorkDir(target string) (*workDir, error) {
	real, err := sys.RealPath(target)
	if err != nil {
		return nil, fmt.Errorf("open target: %w", err)
	}
	dir, err := sys.OpenDir(real)
	if err != nil {
		return nil, fmt.Errorf("open target: %w", err)
	}
	w := &workDir{target: dir, name: workDirPrefix + random()}
	space, err := dir.Space()
	if err == nil {
		err = dir.MkdirAt(w.name, 0o700)
	}
	if err != nil {
		return nil, errs.Join(err, dir.Close())
	}
	w.reserve = reserveOf(space.Free)
	if w.File, err = dir.OpenDirAt(w.name); err != nil {
		return nil, errs.Join(err, dir.RmdirAt(w.name), dir.Close())
	}
	return w, nil
}

// random is a name that nobody has taken.
func random() string {
	var b [6]byte
	rand.Read(b[:]) //nolint:errcheck // never fails, says its documentation
	return hex.EncodeToString(b[:])
}

// reserveOf is how much of the free space is kept free: file systems and drives become
// slow when they are full, and others write, too.
func reserveOf(free int64) int64 { return min(free/20, 10<<30) }

// remove deletes the directory with all that is in it, also after ctx has ended.
func (w *workDir) remove(ctx context.Context) error {
	err := errs.Join(w.Close(), tree.Remove(context.WithoutCancel(ctx), w.target, w.name, removers))
	if err != nil {
		err = fmt.Errorf("%w: delete %s/%s", err, w.target.Path(), w.name)
	}
	return errs.Join(err, w.target.Close())
}

// delete removes one directory in it, and has the file system give its space back: the
// journal may keep it until then.
func (w *workDir) delete(ctx context.Context, name string) error {
	if err := tree.Remove(context.WithoutCancel(ctx), w.File, name, removers); err != nil {
		return err
	}
	return w.SyncFS()
}

// checkReserve is an error when less than the reserve would be left after so many bytes.
func (w *workDir) checkReserve(bytes int64) error {
	space, err := w.Space()
	if err == nil && space.Free-bytes < w.reserve {
		err = &SpaceError{Path: w.target.Path(), Need: bytes, Free: space.Free, Reserve: w.reserve}
	}
	return err
}

// SpaceError says that there is not enough space, of which a reserve is kept free.
type SpaceError struct {
	Path                string
	Need, Free, Reserve int64 // bytes
}

func (e *SpaceError) Error() string {
	return fmt.Sprintf("not enough space at %s: %d bytes are needed, %d are free, of which %d are kept free",
		e.Path, e.Need, e.Free, e.Reserve)
}
