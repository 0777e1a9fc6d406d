package shardtossd

import (
	"context"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/errs"
	"shard_to_ssd/internal/humanize"
	"shard_to_ssd/internal/published"
	"shard_to_ssd/internal/statedir"
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/verify"
)

// decide looks at the public name and decides how -c continues, see published.Decide. The
// user file must be locked.
func (e *ensuring) decide(ctx context.Context, state *statedir.Dir) (published.CopyAction, error) {
	pub, err := e.shard.Stat()
	if err != nil {
		return "", err
	}
	facts := published.Facts{Exists: pub != nil, MountPoint: pub != nil && pub.MountPoint,
		Users: len(e.user.Users()) > 0, Managed: e.user.Existed(), ForceReplace: e.options.Replace}
	m, err := e.openManifest(state, pub)
	if err != nil {
		return "", err
	}
	if m != nil {
		facts.Bound = true
		defer m.Close()
	}
	action := published.Decide(facts).Copy
	if action == published.CompareFirst {
		if facts.Compared, err = e.compareOrphan(ctx, m); err != nil {
			return "", err
		}
		action = published.Decide(facts).Copy
	}
	switch action {
	case published.RefuseMount:
		return "", e.shard.CheckMovable(pub)
	case published.RefuseIt:
		return "", e.errForeign()
	case published.Join:
		if facts.Users && m != nil {
			return action, e.refuseHalf(ctx, m, pub)
		}
	}
	return action, nil
}

// refuseHalf returns an error for a shard that has users and has lost entries: an older
// script that was killed while it removed the shard leaves half of it and all users.
// Looking at the top directory is enough, unless its mtime has changed since it was
// published: then everything is compared, since a service may have put a file there. A
// user that is registered already gets a warning instead.
func (e *ensuring) refuseHalf(ctx context.Context, m *verify.Manifest, pub *sys.Stat) error {
	same, err := hasSameMtime(ctx, m, pub)
	if published.IsUnusable(err) {
		e.warn("%v", err)
		return nil
	}
	if same || err != nil {
		return err
	}
	var lost verify.FirstDifference
	err = verify.CompareTree(ctx, m, e.shard.Tree(), func(d verify.Difference) {
		if d.Kind == verify.Missing {
			lost.Add(d)
		}
	})
	switch {
	case err != nil && verify.IsProcessError(err):
		e.warn("cannot check whether shard %s is complete: %v", e.shard.Name, err)
		return nil
	case err != nil || lost.Count == 0:
		return err
	case slices.Contains(e.user.Users(), e.options.ID):
		e.warn("shard %s on ssd is no longer complete: it differs from its manifest in %v", e.shard.Name, &lost)
		return nil
	}
	return errs.WithKind(fmt.Errorf("shard %s on ssd has users, but is no longer complete: it differs from its manifest in %v; "+
		"%q is not registered: run --repair, or unregister its users with -r, then -c copies it again", e.shard.Name, &lost, e.options.ID), ErrDamaged)
}

// hasSameMtime reports whether the mtime of the top directory is the published one. If
// not, it checks the manifest for the comparison that follows.
func hasSameMtime(ctx context.Context, m *verify.Manifest, pub *sys.Stat) (bool, error) {
	root, err := m.FirstRecord()
	if err != nil || root.Mtime == pub.Mtime {
		return err == nil, err
	}
	return false, m.Check(ctx)
}

// compareOrphan compares a shard without users with its manifest.
func (e *ensuring) compareOrphan(ctx context.Context, m *verify.Manifest) (published.Comparison, error) {
	err := m.Check(ctx)
	if published.IsUnusable(err) {
		e.warn("%v; copying shard %s again", err, e.shard.Name)
		return published.Different, nil
	}
	if err != nil {
		return published.NotCompared, err
	}
	var found verify.FirstDifference
	if err := verify.CompareTree(ctx, m, e.shard.Tree(), found.Add); err != nil {
		return published.NotCompared, err
	}
	if found.Count == 0 {
		return published.Equal, nil
	}
	e.warn("shard %s is on ssd without users and differs from its manifest in %v; copying it again", e.shard.Name, &found)
	return published.Different, nil
}

func (e *ensuring) errForeign() error {
	return errs.WithKind(fmt.Errorf("%s exists, but this tool did not publish it and it has no users in %s: "+
		"check -s and -l, move it away, or copy over it with --replace", e.shard, e.LockDir), ErrForeign)
}

// refuseForeign refuses a foreign directory before the user file is made: after a
// crash, an empty user file would let the next call replace the directory.
func (e *ensuring) refuseForeign() error {
	if e.options.Replace || e.hasUserFile() {
		return nil
	}
	pub, err := e.shard.Stat()
	if err != nil || pub == nil {
		return err
	}
	bound, err := e.isBound(pub)
	if bound || err != nil {
		return err
	}
	// These steps are not one: a shard that was removed meanwhile is not foreign.
	now, err := e.shard.Stat()
	if err != nil || now == nil || !now.SameFile(pub) || e.hasUserFile() {
		return err
	}
	return e.errForeign()
}

// hasUserFile reports whether there is a user file, or something in its place that
// opening it will report.
func (op *operation) hasUserFile() bool {
	_, err := sys.StatPath(op.lockDir + "/" + op.shard.Name + ".lock")
	return !sys.IsErrno(err, unix.ENOENT)
}

// checkStale warns if the published shard was copied from another source than the given
// one. The device number is left out: NFS and device mapper give
// another one after a reboot.
func (e *ensuring) checkStale(state *statedir.Dir) {
	pub, err := e.shard.Stat()
	if err != nil || pub == nil {
		return
	}
	m, err := e.openManifest(state, pub)
	if err != nil {
		e.warn("%v", err)
	}
	if m == nil {
		return
	}
	defer m.Close()
	e.transfer.result.Files, e.transfer.result.Bytes = m.Files, m.Bytes
	now := e.statSource(e.options.Shard)
	if now == nil || (m.Source == now.Path && m.Origin.Ino == now.Ino && m.Origin.Mtime == now.Mtime) {
		return
	}
	e.stale = true
	e.warn("shard %s on ssd was copied from %q (inode %d, modified %s), the source now is %q (inode %d, modified %s)", e.shard.Name,
		m.Source, m.Origin.Ino, humanize.ExactTime(m.Origin.Mtime.Time()), now.Path, now.Ino, humanize.ExactTime(now.Mtime.Time()))
}
