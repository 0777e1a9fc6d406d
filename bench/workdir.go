package bench

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"

	"shard_to_ssd/internal/errs"
	"shard_to_ssd/internal/humanize"
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/tree"
)

// workDirPrefix begins the names of work directories.
const workDirPrefix = "ssdbench-"

// deleteWorkers is the number of directories that are deleted at the same time.
const deleteWorkers = 4

// workDir is the new directory below the target in which a run works. Only its owner can
// read it.
type workDir struct {
	*sys.File
	target  *sys.File
	name    string
	reserve int64 // bytes of free space that a run leaves free
}

// makeWorkDir makes a work directory. The caller must remove it.
func makeWorkDir(target string) (*workDir, error) {
	real, err := sys.RealPath(target)
	if err != nil {
		return nil, fmt.Errorf("open target: %w", err)
	}
	dir, err := sys.OpenDir(real)
	if err != nil {
		return nil, fmt.Errorf("open target: %w", err)
	}
	w := &workDir{target: dir, name: workDirPrefix + randomName()}
	if err := w.makeDir(); err != nil {
		return nil, errs.Join(err, dir.Close())
	}
	return w, nil
}

func (w *workDir) makeDir() error {
	space, err := w.target.Space()
	if err != nil {
		return err
	}
	w.reserve = reserveOf(space.Free)
	if err := w.target.MkdirAt(w.name, 0o700); err != nil {
		return err
	}
	if w.File, err = w.target.OpenDirAt(w.name); err != nil {
		return errs.Join(err, w.target.RmdirAt(w.name))
	}
	return nil
}

// randomName returns a name that no other run uses.
func randomName() string {
	var b [6]byte
	_, _ = rand.Read(b[:]) // never fails, according to its documentation
	return hex.EncodeToString(b[:])
}

// reserveOf returns the bytes that a run leaves free: file systems and drives get slow
// when they are full, and other programs need space.
func reserveOf(free int64) int64 { return min(free/20, 10<<30) }

// removeAll deletes the directory and its contents, even after ctx has ended.
func (w *workDir) removeAll(ctx context.Context) error {
	err := errs.Join(w.Close(), tree.RemoveTree(context.WithoutCancel(ctx), w.target, w.name, deleteWorkers))
	if err != nil {
		err = fmt.Errorf("%w: delete %s/%s by hand", err, w.target.Path(), w.name)
	}
	return errs.Join(err, w.target.Close())
}

// delete deletes one directory or file in it and syncs the file system, because its
// journal may keep the space until then.
func (w *workDir) delete(ctx context.Context, name string) error {
	if err := tree.RemoveTree(context.WithoutCancel(ctx), w.File, name, deleteWorkers); err != nil {
		return err
	}
	return w.SyncFS()
}

// checkReserve returns a *SpaceError if less than the reserve would be free after a write
// of so many bytes.
func (w *workDir) checkReserve(bytes int64) error {
	space, err := w.Space()
	if err == nil && space.Free-bytes < w.reserve {
		err = &SpaceError{Path: w.target.Path(), Need: bytes, Free: space.Free, Reserve: w.reserve}
	}
	return err
}

// SpaceError reports a lack of space. A reserve of the free space must stay free.
type SpaceError struct {
	Path                string
	Need, Free, Reserve int64 // bytes
}

func (e *SpaceError) Error() string {
	return fmt.Sprintf("not enough space at %s: the run needs %s, %s are free, and %s of them must stay free",
		e.Path, humanize.Size(e.Need), humanize.Size(e.Free), humanize.Size(e.Reserve))
}
