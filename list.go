package shardtossd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"shard_to_ssd/copier"
	"shard_to_ssd/internal/errs"
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/locking"
	"shard_to_ssd/verify"
)

// List tells what is on the SSD, by name: whatever is in the SSD dir, has a state
// dir or a user file. It takes no lock that a hook could wait for, so a shard that
// is being copied or removed may show half of each.
func List(ctx context.Context, o Options) (*Result, error) {
	op, err := begin(o, opList)
	if err == nil {
		err = op.list(ctx)
	}
	return op.end(err)
}

func (op *operation) list(ctx context.Context) error {
	names := []string{op.name}
	if op.name == "" {
		var err error
		if names, err = op.names(); err != nil {
			return err
		}
	}
	var failed error
	op.result.Shards = []ShardInfo{}
	for _, name := range names {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		info, err := op.describe(ctx, name)
		op.result.Shards = append(op.result.Shards, *info)
		if err != nil { // the others are listed all the same
			err = fmt.Errorf("look at shard %q: %w", name, err)
			op.warn("%v", err)
			failed = err
		}
	}
	op.result.Outcome = Listed
	return failed
}

// names are all names that may be a shard's.
func (op *operation) names() ([]string, error) {
	scratch := make([]byte, 64<<10)
	public, err := op.publicNames(scratch)
	if err != nil {
		return nil, err
	}
	states, err := stateNames(op.ssd)
	if err != nil {
		return nil, err
	}
	all := append(public, states...)
	locks, err := sys.OpenDir(op.lockDir)
	if err == nil {
		defer locks.Close() //nolint:errcheck // opened for reading
		var files []string
		files, err = locks.Names(scratch)
		for _, file := range files {
			if name, ok := strings.CutSuffix(file, ".lock"); ok && checkName(name) == nil {
				all = append(all, name)
			}
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	slices.Sort(all)
	return slices.Compact(all), err
}

// publicNames are the names in the SSD dir.
func (op *operation) publicNames(scratch []byte) ([]string, error) {
	names, err := op.ssd.Names(scratch)
	return slices.DeleteFunc(names, func(name string) bool {
		return name == "lost+found" || checkName(name) != nil
	}), err
}

func (op *operation) describe(ctx context.Context, name string) (*ShardInfo, error) {
	info := &ShardInfo{Name: name, State: Absent}
	users, unread := locking.ReadUsers(op.LockDir, name)
	if errors.Is(unread, locking.ErrMissing) {
		unread = nil
	}
	if info.Users = users; users == nil {
		info.Users = []string{}
	}
	pub, err := op.ssd.StatAt(name)
	there := err == nil
	if err != nil && !sys.Is(err, unix.ENOENT) {
		return info, errs.Join(err, unread)
	}
	state, err := openState(op.ssd, name)
	if err == nil {
		defer state.close() //nolint:errcheck // opened for reading
		err = describeState(ctx, state, info)
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if there {
		op.describePublished(state, &pub, len(users) > 0 || unread != nil, info)
	}
	return info, errs.Join(err, unread)
}

// describePublished says what is under the public name, by its manifest. A shard
// whose list of users cannot be read is called used: nobody shall delete it by hand.
func (op *operation) describePublished(state *stateDir, pub *sys.Stat, used bool, info *ShardInfo) {
	info.State = Foreign
	if used {
		info.State = Unproven
	}
	if state == nil {
		return
	}
	m, err := verify.OpenManifest(state.File)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		op.warn("%v", err)
		return
	}
	defer m.Close() //nolint:errcheck // opened for reading
	if !m.BoundTo(pub) {
		return
	}
	info.State = Orphan
	if used {
		info.State = Published
	}
	info.Files, info.Bytes, info.Source, info.Published = m.Files, m.Bytes, m.Source, &m.Time
	op.describeFindings(state, m, info)
}

// describeFindings says what verifications have found.
func (op *operation) describeFindings(state *stateDir, m *verify.Manifest, info *ShardInfo) {
	found, err := state.findings(m)
	if err != nil {
		op.warn("%v", err)
	}
	if f := found.passed; f != nil {
		info.Verified, info.ReadBack = &f.when, string(f.mode)
	}
	if f := found.damaged; f != nil {
		info.Damaged, info.DamagedReadBack, info.Differences = &f.when, string(f.mode), f.differences
	}
}

// describeState says what a state dir has besides the manifest.
func describeState(ctx context.Context, state *stateDir, info *ShardInfo) error {
	trash, err := state.has(trashName)
	if err != nil {
		return err
	}
	if trash {
		info.TrashTrees = 1
	}
	if info.Stage, err = state.has(copier.StageName); err != nil {
		return err
	}
	if info.Copying, err = state.locked(); err != nil || !info.Stage {
		return err
	}
	done, total, err := copier.Progress(ctx, state.File)
	if err == nil { // a plan that is being written cannot be read
		info.StageBytes, info.StageTotal = done, total
	}
	return nil
}

// locked reports whether a process works in the state dir. It tries the lock on a
// descriptor of its own, which gives it back at once.
func (s *stateDir) locked() (bool, error) {
	f, err := s.OpenBelow("")
	if err != nil {
		return false, err
	}
	defer f.Close() //nolint:errcheck // opened for reading
	err = f.Lock(false)
	if sys.Is(err, unix.EWOULDBLOCK) {
		return true, nil
	}
	return false, err
}
