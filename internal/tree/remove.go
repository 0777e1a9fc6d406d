package tree

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/errs"
	"shard_to_ssd/internal/sys"
)

// ErrMount is in the error of Remove if it meets a mount, which it does not delete.
var ErrMount = errors.New("something is mounted there, which is not deleted: unmount it")

// RemoveTree deletes name in dir with everything below it, up to jobs directories at a
// time. It follows no symbolic link and enters no mount. A missing name is no error.
// When ctx ends, RemoveTree stops early and returns the cause.
func RemoveTree(ctx context.Context, dir *sys.File, name string, jobs int) error {
	done, err := removeLeaf(dir, name)
	if done || err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(max(jobs, 1))
	r := &remover{ctx: gctx, group: g, top: dir}
	err = r.emptyDir(name)
	groupErr := g.Wait()
	if err != nil {
		return err
	}
	if groupErr != nil {
		return groupErr
	}
	r.ctx = ctx
	return r.removeDirs(name)
}

// removeLeaf removes name, unless it is a directory that is not empty.
func removeLeaf(dir *sys.File, name string) (done bool, err error) {
	err = dir.UnlinkAt(name)
	if sys.IsErrno(err, unix.EISDIR) {
		err = dir.RmdirAt(name)
	} else if sys.IsErrno(err, unix.EPERM) { // a directory as in POSIX, or an immutable file on Linux
		if removed := dir.RmdirAt(name); !sys.IsErrno(removed, unix.ENOTDIR, unix.EPERM) {
			err = removed
		}
	}
	switch {
	case err == nil || sys.IsErrno(err, unix.ENOENT):
		return true, nil
	case sys.IsErrno(err, unix.ENOTEMPTY, unix.EEXIST):
		return false, nil
	}
	return false, markMount(dir, name, err)
}

// markMount adds ErrMount to err, an EBUSY of name in dir, if name is a mount. There are
// other reasons for EBUSY.
func markMount(dir *sys.File, name string, err error) error {
	if !sys.IsErrno(err, unix.EBUSY) {
		return err
	}
	above, aboveErr := dir.Stat()
	s, statErr := dir.StatAt(name)
	if aboveErr == nil && statErr == nil && (s.MountPoint || s.Dev != above.Dev) {
		return fmt.Errorf("%w: %w", err, ErrMount)
	}
	return err
}

// remover empties the directories of a tree. Each gets its own goroutine if the group
// has room, else the goroutine of the caller.
type remover struct {
	ctx   context.Context
	group *errgroup.Group
	top   *sys.File
}

// openDir opens the directory at path. It can become a mount between two calls.
func (r *remover) openDir(path string) (*sys.File, error) {
	d, err := r.top.OpenWithin(path)
	if sys.IsErrno(err, unix.EXDEV) {
		return nil, fmt.Errorf("%w: %w", err, ErrMount)
	}
	return d, err
}

// emptyDir removes the files of the directory at path, and empties its directories,
// some of them in other goroutines. It does not remove the directories, so it need not
// wait for these goroutines.
func (r *remover) emptyDir(path string) error {
	dirs, err := r.removeFiles(path)
	if err != nil {
		return err
	}
	for _, name := range dirs {
		below := func() error { return r.emptyDir(path + "/" + name) }
		if !r.group.TryGo(below) {
			if err := below(); err != nil {
				return err
			}
		}
	}
	return nil
}

// removeFiles removes all entries of the directory at path except directories that are
// not empty. It returns the names of these.
func (r *remover) removeFiles(path string) (dirs []string, err error) {
	if err := context.Cause(r.ctx); err != nil {
		return nil, err
	}
	d, err := r.openDir(path)
	if err != nil {
		return nil, err
	}
	dirs, err = r.removeFilesIn(d)
	return dirs, errs.Join(err, d.Close())
}

// removeFilesIn is removeFiles for an open directory. If it is read-only and this process
// is its owner, but not root, it is first made writable.
func (r *remover) removeFilesIn(d *sys.File) (dirs []string, err error) {
	names, err := d.ListNames(make([]byte, 64<<10))
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if r.ctx.Err() != nil {
			return nil, context.Cause(r.ctx)
		}
		done, err := removeLeaf(d, name)
		if sys.IsErrno(err, unix.EACCES) && d.Chmod(0o700) == nil {
			done, err = removeLeaf(d, name)
		}
		if err != nil {
			return nil, err
		}
		if !done {
			dirs = append(dirs, name)
		}
	}
	return dirs, nil
}

// removeDirs removes the directory at path, which holds only directories now, from the
// deepest up. It keeps one descriptor open, at any depth of the tree.
func (r *remover) removeDirs(path string) error {
	dirs, err := r.removeFiles(path)
	if err != nil {
		return err
	}
	for _, name := range dirs {
		if err := r.removeDirs(path + "/" + name); err != nil {
			return err
		}
	}
	parent, name := "", path
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		parent, name = path[:i], path[i+1:]
	}
	d, err := r.openDir(parent)
	if err != nil {
		return err
	}
	defer d.Close()
	return markMount(d, name, d.RmdirAt(name))
}
