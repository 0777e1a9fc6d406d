package repair

import (
	"context"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"shard_to_ssd/copier"
	"shard_to_ssd/internal/errs"
	"shard_to_ssd/internal/statedir"
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/tree"
	"shard_to_ssd/verify"
)

// Target is a shard under repair.
type Target struct {
	Shard verify.Shard  // under its public name
	State *statedir.Dir // locked; its stage has the new copies of Plan.Copied
}

// Apply changes the shard as planned, and makes that durable. Every directory is
// opened from the SSD dir on, through no symbolic link and into no mount. After an
// error the directories that were changed still get their metadata back, so that the
// failed repair adds no difference of its own.
func (t Target) Apply(ctx context.Context, m *verify.Manifest, plan *Plan) error {
	// Damaged entries come into the stage: without its journal no process resumes it.
	if err := t.State.Clear(ctx, statedir.Journal, 1); err != nil {
		return err
	}
	a := &applier{Target: t, ctx: ctx, plan: plan, changed: plan.Changed()}
	err := m.EachRecord(a.applyRecord)
	err = errs.Join(err, a.leaveDir())
	if err == nil {
		err = a.takeAway(plan.extraneous())
	}
	return errs.Join(err, m.EachRecord(a.sealDir), t.Shard.Parent.SyncFS())
}

// applier is one run of Apply.
type applier struct {
	Target
	ctx     context.Context
	plan    *Plan
	changed *tree.PathSet

	// The directory of the records that follow, in the shard and in the stage; nil if
	// nothing is to be done there.
	dir, staged *sys.File
}

// openDir opens a directory of the shard.
func (a *applier) openDir(path string) (*sys.File, error) {
	d, err := a.Shard.Parent.OpenWithin(tree.JoinPath(a.Shard.Name, path))
	if sys.IsErrno(err, unix.EXDEV) {
		err = fmt.Errorf("%w: %w", err, tree.ErrMount)
	}
	return d, err
}

func (a *applier) openStaged(path string) (*sys.File, error) {
	return a.State.OpenWithin(tree.JoinPath(copier.StageName, path))
}

// applyRecord repairs the entry of one record, if it is damaged.
func (a *applier) applyRecord(r *tree.Record) error {
	if a.ctx.Err() != nil {
		return context.Cause(a.ctx)
	}
	switch how := a.plan.severities[r.RelativePath()]; {
	case r.Kind == tree.Sums:
		return nil
	case r.Kind == tree.Dir:
		return errs.Join(a.leaveDir(), a.enterDir(r))
	case a.dir == nil || how == 0:
		return nil
	case how == broken:
		return a.replaceEntry(r.Name)
	case r.Kind == tree.Regular:
		return a.setFileMetadata(r)
	}
	return nil
}

// enterDir opens the directory of the records that follow. A directory that is
// recreated has come with everything in it.
func (a *applier) enterDir(r *tree.Record) (err error) {
	path := r.RelativePath()
	copies, inPlace := a.plan.Copied.ContainsAtOrBelow(path), a.plan.InPlace.ContainsAtOrBelow(path)
	if a.plan.severities[path] == broken || !copies && !inPlace {
		return nil
	}
	if a.dir, err = a.openDir(r.Path); err != nil || !copies {
		return err
	}
	a.staged, err = a.openStaged(r.Path)
	return err
}

func (a *applier) leaveDir() (err error) {
	for _, d := range []*sys.File{a.dir, a.staged} {
		if d != nil {
			err = errs.Join(err, d.Close())
		}
	}
	a.dir, a.staged = nil, nil
	return err
}

// replaceEntry puts the entry of the stage in its place. A process that has the
// damaged file open keeps it. An entry that cannot be renamed over comes into the
// stage, to be deleted with it.
func (a *applier) replaceEntry(name string) error {
	flags, err := a.replaceFlags(name)
	if err != nil {
		return err
	}
	return a.moveEntry(a.staged, name, a.dir, name, flags)
}

// replaceFlags returns how an entry of the stage can be renamed to its place:
// a rename over a directory, or of a directory over something, is an exchange.
func (a *applier) replaceFlags(name string) (uint, error) {
	old, err := a.dir.StatAt(name)
	if sys.IsErrno(err, unix.ENOENT) {
		return sys.NoReplace, nil
	}
	if err != nil {
		return 0, err
	}
	s, err := a.staged.StatAt(name)
	if err != nil {
		return 0, err
	}
	if old.IsDir() || s.IsDir() {
		return sys.Exchange, nil
	}
	return sys.Replace, nil
}

// moveEntry is tree.Move. It makes directories writable that are not; sealDir gives
// them their mode again.
func (a *applier) moveEntry(from *sys.File, name string, to *sys.File, newName string, flags uint) error {
	err := tree.Move(from, name, to, newName, flags)
	if !sys.IsErrno(err, unix.EACCES) || from.Chmod(0o700) != nil || to.Chmod(0o700) != nil {
		return err
	}
	return tree.Move(from, name, to, newName, flags)
}

// setFileMetadata sets owner, mode and mtime of a file. A file outside the shard may
// have been linked there meanwhile: only a file with one name is changed.
func (a *applier) setFileMetadata(r *tree.Record) error {
	f, err := a.dir.OpenAt(r.Name, unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	s, err := f.Stat()
	if err != nil {
		return err
	}
	if !s.IsRegular() || s.Nlink != 1 {
		return fmt.Errorf("%q has changed meanwhile", r.RelativePath())
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
	if chowned || s.Perm() != r.Mode { // a change of owner clears the set-id bits
		return f.Chmod(r.Mode)
	}
	return nil
}

// takeAway renames entries that are not part of the shard to trash.
func (a *applier) takeAway(paths []string) error {
	if len(paths) == 0 {
		return nil
	}
	if err := a.State.MkdirAt(statedir.TrashName, 0o700); err != nil {
		return err
	}
	trash, err := a.State.OpenDirAt(statedir.TrashName)
	if err != nil {
		return err
	}
	defer trash.Close()
	for i, path := range paths {
		if a.ctx.Err() != nil {
			return context.Cause(a.ctx)
		}
		if err := a.takeAwayEntry(path, trash, fmt.Sprint(i)); err != nil {
			return err
		}
	}
	return nil
}

func (a *applier) takeAwayEntry(path string, trash *sys.File, as string) error {
	above, name := splitPath(path)
	d, err := a.openDir(above)
	if err != nil {
		return err
	}
	defer d.Close()
	err = a.moveEntry(d, name, trash, as, sys.NoReplace)
	if sys.IsErrno(err, unix.ENOENT) {
		return nil
	}
	return err
}

// sealDir sets the metadata of a directory in which something was changed.
func (a *applier) sealDir(r *tree.Record) error {
	path := r.RelativePath()
	if r.Kind != tree.Dir || !a.changed.Contains(path) {
		return nil
	}
	d, err := a.openDir(r.Path)
	if err != nil {
		return err
	}
	defer d.Close()
	if a.plan.severities[path] == wrongXattrs {
		if err := a.copyXattrs(r, d); err != nil {
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

// copyXattrs gives a directory the extended attributes that its copy in the stage has.
func (a *applier) copyXattrs(r *tree.Record, d *sys.File) error {
	staged, err := a.openStaged(r.Path)
	if err != nil {
		return err
	}
	defer staged.Close()
	want, _, err := tree.ReadXattrs(staged, ".", make([]byte, 4096))
	if err != nil {
		return err
	}
	have, _, err := tree.ReadXattrs(d, ".", make([]byte, 4096))
	if err != nil {
		return err
	}
	for _, attr := range have {
		if err := d.RemoveXattrAt(".", attr.Name); err != nil {
			return err
		}
	}
	for _, attr := range want {
		if err := d.SetXattrAt(".", attr.Name, attr.Value); err != nil {
			return err
		}
	}
	return nil
}

// CheckMounts refuses a shard with a mount where something is to be repaired, before
// anything is changed.
func (p *Plan) CheckMounts(shard verify.Shard) error {
	for path := range p.severities {
		if isMounted(shard, path) {
			return fmt.Errorf("repair %q: %w; nothing was changed", tree.JoinPath(shard.Name, path), tree.ErrMount)
		}
	}
	return nil
}

// isMounted reports whether an entry of the shard is a mount point, or lies below one.
// The repair finds other damage.
func isMounted(shard verify.Shard, path string) bool {
	above, name := splitPath(path)
	d, err := shard.Parent.OpenWithin(tree.JoinPath(shard.Name, above))
	if err != nil {
		return sys.IsErrno(err, unix.EXDEV)
	}
	defer d.Close()
	s, err := d.StatAt(name)
	if err != nil {
		return sys.IsErrno(err, unix.EXDEV)
	}
	return s.MountPoint
}

// splitPath returns the directory that an entry is in, "" for the top directory, and
// its name there. The top directory is "." in itself.
func splitPath(path string) (dir, name string) {
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[:i], path[i+1:]
	}
	return "", path
}
