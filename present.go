package shardtossd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/sys"
	"shard_to_ssd/verify"
)

// presence is what Ensure finds under the public name.
type presence int

const (
	absent      presence = iota // nothing: copy
	present                     // register
	replaceable                 // something that may be replaced: copy, then exchange
)

// lookFor decides whether the shard is present. The lock is held. With users it
// is, whoever copied it. Without, it is only if a bound manifest matches it: an
// older script that was killed while it removed or copied leaves half a shard.
func (op *operation) lookFor(ctx context.Context, state *stateDir) (presence, error) {
	pub, err := op.published()
	switch {
	case err != nil:
		return absent, err
	case pub == nil:
		return absent, nil
	case len(op.user.Users()) > 0:
		return present, op.refuseHalf(ctx, state, pub)
	}
	if err := op.refuseMount(pub); err != nil {
		return absent, err
	}
	m, err := op.boundManifest(state, pub)
	if err != nil {
		return absent, err
	}
	if m == nil {
		return op.mayReplace()
	}
	defer m.Close() //nolint:errcheck // opened for reading
	return op.adopt(ctx, m)
}

// refuseHalf is an error for a shard that has users and of which names are gone: the
// older script, killed while it removed, leaves half a shard and the list as it was.
// That costs a look at the top directory. Only if its time of modification is another
// one than when it was published, everything is looked at: a service may have put a
// file there. Who is registered already is only warned.
func (op *operation) refuseHalf(ctx context.Context, state *stateDir, pub *sys.Stat) error {
	m, err := op.boundManifest(state, pub)
	if m == nil || err != nil {
		return err
	}
	defer m.Close() //nolint:errcheck // opened for reading
	root, err := m.First()
	if err == nil && root.Mtime == pub.Mtime {
		return nil
	}
	if err == nil {
		err = m.Check()
	}
	if unusable(err) {
		op.warn("%v", err)
		return nil
	}
	if err != nil {
		return err
	}
	var lost firstOf
	err = verify.CompareTree(ctx, m, verify.Shard{In: op.ssd, Name: op.name}, func(d verify.Difference) {
		if d.Kind == verify.Missing {
			lost.add(d)
		}
	})
	switch {
	case err != nil && verify.Ours(err):
		op.warn("whether shard %s is whole could not be looked at: %v", op.name, err)
		return nil
	case err != nil || lost.count == 0:
		return err
	case slices.Contains(op.user.Users(), op.ID):
		op.warn("shard %s on ssd is not whole any more: it differs from what was published in %v", op.name, &lost)
		return nil
	}
	return asKind(fmt.Errorf("shard %s on ssd has users, but is not whole any more: it differs from what was published in %v; "+
		"%q is not registered: let its users go with -r, then -c copies it afresh", op.name, &lost, op.ID), ErrDamaged)
}

// refuseMount refuses to remove or replace what cannot be renamed, before anything is
// copied or anybody unregistered.
func (op *operation) refuseMount(pub *sys.Stat) error {
	if pub == nil || !pub.MountPoint {
		return nil
	}
	return fmt.Errorf("%s/%s is a mount, which can be neither removed nor replaced: unmount it", op.SSDDir, op.name)
}

// adopt compares an orphan with its manifest; any difference means a fresh copy.
func (op *operation) adopt(ctx context.Context, m *verify.Manifest) (presence, error) {
	if err := m.Check(); unusable(err) {
		op.warn("%v; copying shard %s afresh", err, op.name)
		return replaceable, nil
	} else if err != nil {
		return absent, err
	}
	var found firstOf
	err := verify.CompareTree(ctx, m, verify.Shard{In: op.ssd, Name: op.name}, found.add)
	if err != nil {
		return absent, err
	}
	if found.count == 0 {
		return present, nil
	}
	op.warn("shard %s is on ssd without users and differs from its manifest in %v; copying it afresh", op.name, &found)
	return replaceable, nil
}

// mayReplace decides about a foreign directory. A user file that was there before
// says that the older script managed it.
func (op *operation) mayReplace() (presence, error) {
	if op.Replace || op.user.Existed() {
		return replaceable, nil
	}
	return absent, op.errForeign()
}

func (op *operation) errForeign() error {
	return fmt.Errorf("%s/%s exists, but neither was it published by this tool nor does it have users in %s: "+
		"remove it, or copy over it with --replace", op.SSDDir, op.name, op.LockDir)
}

// refuseForeign is mayReplace before the user file is made: a user file must not
// be left by a crash that would let the next call replace what this one refuses.
func (op *operation) refuseForeign() error {
	userFile := op.lockDir + "/" + op.name + ".lock"
	_, err := sys.StatPath(userFile)
	if op.Replace || !sys.Is(err, unix.ENOENT) {
		return nil // what else is wrong with the user file, its opening says
	}
	pub, err := op.published()
	if err != nil || pub == nil {
		return err
	}
	state, err := op.openStateIfThere()
	if err != nil {
		return err
	}
	if state != nil {
		defer state.close() //nolint:errcheck // opened for reading
	}
	m, err := op.boundManifest(state, pub)
	if err != nil {
		return err
	}
	if m != nil {
		return m.Close()
	}
	// These looks were not one: a shard that was removed meanwhile is not foreign.
	now, err := op.published()
	if err != nil || now == nil || !now.SameFile(pub) {
		return err
	}
	if _, err := sys.StatPath(userFile); !sys.Is(err, unix.ENOENT) {
		return nil
	}
	return op.errForeign()
}

// noteStale warns once if what is published was copied from another source than
// the one now given. A source that is not there cannot be compared. The device
// number is left out: NFS and device mapper give others after a reboot.
func (op *operation) noteStale(state *stateDir) {
	pub, err := op.published()
	if err != nil || pub == nil {
		return
	}
	m, err := op.boundManifest(state, pub)
	if err != nil {
		op.warn("%v", err)
	}
	if m == nil {
		return
	}
	defer m.Close() //nolint:errcheck // opened for reading
	op.result.Files, op.result.Bytes = m.Files, m.Bytes
	now := op.lookAtSource()
	if now == nil || (m.Source == now.path && m.Origin.Ino == now.Ino && m.Origin.Mtime == now.Mtime) {
		return
	}
	op.result.Stale = true
	op.warn("shard %s on ssd was copied from %q (inode %d, modified %s), the source now is %q (inode %d, modified %s)", op.name,
		m.Source, m.Origin.Ino, m.Origin.Mtime.Time().UTC(), now.path, now.Ino, now.Mtime.Time().UTC())
}

// sourceNow is where the source's path leads.
type sourceNow struct {
	path string
	sys.Stat
}

// sourcePatience is how long a hook waits to hear of the source of a shard that it
// does not have to copy.
const sourcePatience = 3 * time.Second

// lookAtSource is nil for a source that is not there, or on a server that does not
// answer: the thread that asks it is left behind. (One that the kernel does not let go,
// as in FUSE, still keeps the process from ending; NFS lets it go.)
func (op *operation) lookAtSource() *sourceNow {
	found := make(chan *sourceNow, 1)
	go func() {
		defer close(found)
		path, err := sys.RealPath(op.Shard)
		if err != nil {
			return
		}
		if s, err := sys.StatPath(path); err == nil {
			found <- &sourceNow{path, s}
		}
	}()
	select {
	case now := <-found:
		return now
	case <-time.After(sourcePatience):
		op.warn("the source %q does not answer: it is not known whether it is what shard %s was copied from", op.Shard, op.name)
		return nil
	}
}

// asKind makes err one of the kinds that callers tell apart.
func asKind(err error, kind error) error {
	if err == nil || errors.Is(err, kind) {
		return err
	}
	return &kindError{kind, err}
}

// firstOf keeps the first of many differences, and their number.
type firstOf struct {
	count int
	first verify.Difference
}

func (f *firstOf) add(d verify.Difference) {
	if f.count++; f.count == 1 {
		f.first = d
	}
}

func (f *firstOf) String() string {
	text := fmt.Sprintf("%q: %s %s", f.first.Path, f.first.Kind, f.first.Detail)
	if f.count > 1 {
		text = fmt.Sprintf("%d places, the first: %s", f.count, text)
	}
	return strings.TrimSpace(text)
}
