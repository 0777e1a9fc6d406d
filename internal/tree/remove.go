package tree

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/sys"
)

// ErrMount is in the error of Remove when something is mounted in what it deletes.
var ErrMount = errors.New("something is mounted there, which is not deleted: unmount it")

// Remove deletes name in dir with everything below it, following no symbolic
// link and entering no mount, with up to jobs directories at once. A name that is
// not there is no error. When ctx ends it stops early and returns its cause.
func Remove(ctx context.Context, dir *sys.File, name string, jobs int) error {
	done, err := removeLeaf(dir, name)
	if done || err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(max(jobs, 1))
	r := &remover{ctx: gctx, group: g, top: dir}
	err = r.empty(name)
	if waited := g.Wait(); err == nil {
		err = waited
	}
	if err != nil {
		return err
	}
	r.ctx = ctx
	return r.removeDirs(name)
}

// removeLeaf removes name unless it is a directory with something in it.
func removeLeaf(dir *sys.File, name string) (done bool, err error) {
	err = dir.UnlinkAt(name)
	if sys.Is(err, unix.EISDIR) {
		err = dir.RmdirAt(name)
	} else if sys.Is(err, unix.EPERM) { // what POSIX says of a directory, and Linux of an immutable file
		if removed := dir.RmdirAt(name); !sys.Is(removed, unix.ENOTDIR, unix.EPERM) {
			err = removed
		}
	}
	switch {
	case err == nil || sys.Is(err, unix.ENOENT):
		return true, nil
	case sys.Is(err, unix.ENOTEMPTY, unix.EEXIST):
		return false, nil
	}
	return false, ofMount(dir, name, err)
}

// ofMount tells what is busy because it is a mount from what is for another reason.
func ofMount(dir *sys.File, name string, err error) error {
	if !sys.Is(err, unix.EBUSY) {
		return err
	}
	above, aboveErr := dir.Stat()
	s, statErr := dir.StatAt(name)
	if aboveErr == nil && statErr == nil && (s.MountPoint || s.Dev != above.Dev) {
		err = fmt.Errorf("%w: %w", err, ErrMount)
	}
	return err
}

// remover empties the directories below one, each in a goroutine of its own as
// long as there is room in the group, in the caller's otherwise.
type remover struct {
	ctx   context.Context
	group *errgroup.Group
	top   *sys.File
}

// open opens the directory at path. A mount can come between two calls.
func (r *remover) open(path string) (*sys.File, error) {
	d, err := r.top.OpenWithin(path)
	if sys.Is(err, unix.EXDEV) {
		err = fmt.Errorf("%w: %w", err, ErrMount)
	}
	return d, err
}

// empty removes the files of the directory at path and hands its directories
// on. They are only emptied, not removed: nobody waits for anybody.
func (r *remover) empty(path string) error {
	if err := context.Cause(r.ctx); err != nil {
		return err
	}
	d, err := r.open(path)
	if err != nil {
		return err
	}
	dirs, err := r.emptyFiles(d)
	if closed := d.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return err
	}
	for _, name := range dirs {
		below := func() error { return r.empty(path + "/" + name) }
		if !r.group.TryGo(below) {
			if err := below(); err != nil {
				return err
			}
		}
	}
	return nil
}

// emptyFiles removes what is in d but directories that are not empty, and names
// those. The owner of a read-only directory, if not root, may write to it first.
func (r *remover) emptyFiles(d *sys.File) (dirs []string, err error) {
	names, err := d.Names(make([]byte, 64<<10))
	for i := 0; i < len(names) && err == nil; i++ {
		if r.ctx.Err() != nil {
			return nil, context.Cause(r.ctx)
		}
		var done bool
		done, err = removeLeaf(d, names[i])
		if sys.Is(err, unix.EACCES) && d.Chmod(0o700) == nil {
			done, err = removeLeaf(d, names[i])
		}
		if !done && err == nil {
			dirs = append(dirs, names[i])
		}
	}
	return dirs, err
}

// removeDirs removes the directory at path, which has only directories left in
// it, from the deepest up. It holds one descriptor, however deep the tree.
func (r *remover) removeDirs(path string) error {
	if err := context.Cause(r.ctx); err != nil {
		return err
	}
	d, err := r.open(path)
	if err != nil {
		return err
	}
	dirs, err := r.emptyFiles(d)
	if closed := d.Close(); err == nil {
		err = closed
	}
	for i := 0; i < len(dirs) && err == nil; i++ {
		err = r.removeDirs(path + "/" + dirs[i])
	}
	if err != nil {
		return err
	}
	parent, name := "", path
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		parent, name = path[:i], path[i+1:]
	}
	d, err = r.open(parent)
	if err != nil {
		return err
	}
	defer d.Close() //nolint:errcheck // opened for reading
	return ofMount(d, name, d.RmdirAt(name))
}
