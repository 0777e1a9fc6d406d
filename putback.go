package shardtossd

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"

	"shard_to_ssd/copier"
	"shard_to_ssd/internal/errs"
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/tree"
	"shard_to_ssd/verify"
)

// putBack changes the shard: whole entries come from the stage, each with one rename;
// metadata is put right in place; what is not part of the shard becomes trash. Every
// directory is opened from the SSD dir on, through no symbolic link and into no mount.
// Directories come last: renames change their times.
func (op *operation) putBack(ctx context.Context, m *verify.Manifest, state *stateDir, need *mending) error {
	// Without its journal nobody goes on with a stage that damaged entries come into.
	if err := copier.DropJournal(ctx, state.File); err != nil {
		return err
	}
	p := &putter{op: op, ctx: ctx, state: state, need: need, all: need.touched()}
	err := m.Each(p.entry)
	err = errs.Join(err, p.leave())
	if err == nil {
		err = p.takeAway(need.strangers())
	}
	// Also after a failure: what was changed shall differ in nothing else.
	return errs.Join(err, m.Each(p.sealDir), op.ssd.SyncFS())
}

// putter is one run of putBack.
type putter struct {
	op    *operation
	ctx   context.Context
	state *stateDir
	need  *mending
	all   *tree.Only

	dir, staged *sys.File // of the records that follow: published, and in the stage; nil if nothing is to be done there
}

// published opens a directory of the shard.
func (p *putter) published(path string) (*sys.File, error) {
	d, err := p.op.ssd.OpenWithin(tree.Join(p.op.name, path))
	return d, refused(err)
}

// refused says why a directory was not entered.
func refused(err error) error {
	if sys.Is(err, unix.EXDEV) {
		err = fmt.Errorf("%w: %w", err, tree.ErrMount)
	}
	return err
}

// entry puts one record right.
func (p *putter) entry(r *tree.Record) error {
	if p.ctx.Err() != nil {
		return context.Cause(p.ctx)
	}
	switch how := p.need.damage[r.Below()]; {
	case r.Kind == tree.Sums:
		return nil
	case r.Kind == tree.Dir:
		return errs.Join(p.leave(), p.enter(r))
	case p.dir == nil || how == 0:
		return nil
	case how == broken:
		return p.replace(r.Name)
	case r.Kind == tree.Regular:
		return p.inPlace(r)
	}
	return nil
}

// enter opens the directory of the records that follow. One that is made anew has
// come with all that is in it.
func (p *putter) enter(r *tree.Record) (err error) {
	path := r.Below()
	copies, inPlace := p.need.copied.Leads(path), p.need.inPlace.Leads(path)
	if p.need.damage[path] == broken || !copies && !inPlace {
		return nil
	}
	if p.dir, err = p.published(r.Path); err != nil || !copies {
		return err
	}
	p.staged, err = p.state.OpenWithin(tree.Join(copier.StageName, r.Path))
	return err
}

func (p *putter) leave() (err error) {
	for _, d := range []*sys.File{p.dir, p.staged} {
		if d != nil {
			err = errs.Join(err, d.Close())
		}
	}
	p.dir, p.staged = nil, nil
	return err
}

// replace puts the entry of the stage in its place. A damaged file is gone then, but
// for those who have it open; whatever cannot be renamed over comes into the stage, to
// be deleted with it.
func (p *putter) replace(name string) error {
	old, err := p.dir.StatAt(name)
	how := uint(sys.Replace)
	switch {
	case sys.Is(err, unix.ENOENT):
		how = sys.NoReplace
	case err != nil:
		return err
	default:
		s, err := p.staged.StatAt(name)
		if err != nil {
			return err
		}
		if old.IsDir() || s.IsDir() {
			how = sys.Exchange
		}
	}
	return p.move(p.staged, name, p.dir, name, how)
}

// move is moveAs. Directories that may not be written to become so until sealDir.
func (p *putter) move(from *sys.File, name string, to *sys.File, newName string, how uint) error {
	err := moveAs(from, name, to, newName, how)
	if sys.Is(err, unix.EACCES) && errs.Join(from.Chmod(0o700), to.Chmod(0o700)) == nil {
		err = moveAs(from, name, to, newName, how)
	}
	return err
}

// inPlace puts the metadata of a file right. Somebody may have linked what is not part
// of the shard there meanwhile.
func (p *putter) inPlace(r *tree.Record) error {
	f, err := p.dir.OpenAt(r.Name, unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // opened for reading
	s, err := f.Stat()
	if err == nil && (!s.IsRegular() || s.Nlink != 1) {
		err = fmt.Errorf("%q has changed meanwhile", r.Below())
	}
	if err != nil {
		return err
	}
	if err := setOwnerAndMode(f, &s, r); err != nil {
		return err
	}
	return f.SetTimes(s.Atime, r.Mtime)
}

func setOwnerAndMode(f *sys.File, s *sys.Stat, r *tree.Record) error {
	chowned := s.UID != r.UID || s.GID != r.GID
	if chowned {
		if err := f.Chown(r.UID, r.GID); err != nil {
			return err
		}
	}
	if chowned || s.Perm() != r.Mode { // a change of owner takes set-id bits away
		return f.Chmod(r.Mode)
	}
	return nil
}

// takeAway renames what is not part of the shard to trash.
func (p *putter) takeAway(paths []string) error {
	if len(paths) == 0 {
		return nil
	}
	if err := p.state.MkdirAt(trashName, 0o700); err != nil {
		return err
	}
	trash, err := p.state.OpenDirAt(trashName)
	if err != nil {
		return err
	}
	defer trash.Close() //nolint:errcheck // opened for reading
	for i, path := range paths {
		if p.ctx.Err() != nil {
			return context.Cause(p.ctx)
		}
		if err := p.takeOne(path, trash, fmt.Sprint(i)); err != nil {
			return err
		}
	}
	return nil
}

func (p *putter) takeOne(path string, trash *sys.File, as string) error {
	above, name := splitPath(path)
	d, err := p.published(above)
	if err != nil {
		return err
	}
	defer d.Close() //nolint:errcheck // opened for reading
	err = p.move(d, name, trash, as, sys.NoReplace)
	if sys.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// sealDir puts the metadata of a directory right in which something was changed.
func (p *putter) sealDir(r *tree.Record) error {
	path := r.Below()
	if r.Kind != tree.Dir || !p.all.Has(path) {
		return nil
	}
	d, err := p.published(r.Path)
	if err != nil {
		return err
	}
	defer d.Close() //nolint:errcheck // opened for reading
	if p.need.damage[path] == wrongXattrs {
		if err := p.setXattrs(r, d); err != nil {
			return err
		}
	}
	s, err := d.Stat()
	if err != nil {
		return err
	}
	if err := setOwnerAndMode(d, &s, r); err != nil {
		return err
	}
	return d.SetTimesAt(".", s.Atime, r.Mtime)
}

// setXattrs gives a directory the extended attributes that its copy in the stage has.
func (p *putter) setXattrs(r *tree.Record, d *sys.File) error {
	staged, err := p.state.OpenWithin(tree.Join(copier.StageName, r.Path))
	if err != nil {
		return err
	}
	defer staged.Close() //nolint:errcheck // opened for reading
	want, _, err := tree.ReadXattrs(staged, ".", make([]byte, 4096))
	if err != nil {
		return err
	}
	have, _, err := tree.ReadXattrs(d, ".", make([]byte, 4096))
	if err != nil {
		return err
	}
	for _, a := range have {
		if err := d.RemoveXattrAt(".", a.Name); err != nil {
			return err
		}
	}
	for _, a := range want {
		if err := d.SetXattrAt(".", a.Name, a.Value); err != nil {
			return err
		}
	}
	return nil
}

// refuseMounts refuses a shard in which something is mounted where it is to be
// mended, before anything is changed.
func (op *operation) refuseMounts(need *mending) error {
	for path := range need.damage {
		above, name := splitPath(path)
		if path == "." {
			above, name = "", "."
		}
		d, err := op.ssd.OpenWithin(tree.Join(op.name, above))
		if err == nil {
			var s sys.Stat
			s, err = d.StatAt(name)
			d.Close() //nolint:errcheck // opened for reading
			if err == nil && s.MountPoint {
				err = unix.EXDEV
			}
		}
		if sys.Is(err, unix.EXDEV) {
			return fmt.Errorf("repair %q: %w; nothing was changed", tree.Join(op.name, path), tree.ErrMount)
		}
	}
	return nil
}
