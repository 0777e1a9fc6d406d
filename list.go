package shardtossd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"shard_to_ssd/internal/errs"
	"shard_to_ssd/internal/published"
	"shard_to_ssd/internal/statedir"
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/locking"
)

// List returns the shards on the SSD, by name: everything in the SSD dir, and everything
// that has a state dir or a user file. It takes no lock that a hook could wait for, so
// a shard that is being copied or removed may show half of each. A shard that cannot
// be described completely is an error at the end; the others are listed all the same.
func List(ctx context.Context, o ListOptions) (*ListResult, error) {
	l := &listing{operation: newOperation(o.Host, Work{}), shards: []ShardInfo{}}
	err := l.perform(func() error { return l.begin(o.Shard) }, func() error { return l.run(ctx) })
	return &ListResult{l.summary, l.shards}, err
}

// listing is one call of List.
type listing struct {
	*operation
	shards []ShardInfo
}

func (l *listing) begin(shard string) error {
	if shard != "" {
		if err := l.setShard(shard); err != nil {
			return err
		}
	}
	return l.openHost()
}

func (l *listing) run(ctx context.Context) (failed error) {
	names := []string{l.shard.Name}
	if l.shard.Name == "" {
		var err error
		if names, err = l.findNames(); err != nil {
			return err
		}
	}
	for _, name := range names {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		info, err := l.describe(ctx, published.Shard{SSD: l.shard.SSD, SSDDir: l.SSDDir, Name: name})
		l.shards = append(l.shards, *info)
		if err != nil {
			failed = fmt.Errorf("list shard %q: %w", name, err)
			l.warn("%v", failed)
		}
	}
	l.summary.Outcome = Listed
	return failed
}

// findNames returns all names that may be those of shards.
func (l *listing) findNames() ([]string, error) {
	scratch := make([]byte, 64<<10)
	names, err := published.ListNames(l.shard.SSD, scratch)
	if err != nil {
		return nil, err
	}
	shards, err := statedir.ListShards(l.shard.SSD)
	if err != nil {
		return nil, err
	}
	names = append(names, shards...)
	users, err := locking.ListUserFiles(l.lockDir, scratch)
	names = append(names, slices.DeleteFunc(users, func(name string) bool { return statedir.CheckName(name) != nil })...)
	slices.Sort(names)
	return slices.Compact(names), err
}

func (l *listing) describe(ctx context.Context, shard published.Shard) (*ShardInfo, error) {
	info := &ShardInfo{Name: shard.Name, State: StateAbsent}
	users, unread := locking.ReadUsers(l.LockDir, shard.Name)
	if errors.Is(unread, locking.ErrNoUserFile) {
		unread = nil
	}
	if info.Users = users; users == nil {
		info.Users = []string{}
	}
	pub, err := shard.Stat()
	if err != nil {
		return info, errs.Join(err, unread)
	}
	state, err := statedir.OpenIfExists(shard.SSD, shard.Name)
	if state != nil {
		defer state.Close()
		var c statedir.Contents
		if c, err = state.Contents(ctx); errors.Is(err, fs.ErrNotExist) {
			err = nil // deleted meanwhile
		}
		info.Stage, info.Copying, info.StageBytes, info.StageTotal = c.Stage, c.Copying, c.CopiedBytes, c.TotalBytes
		if c.Trash {
			info.TrashTrees = 1
		}
	}
	// A list of users that cannot be read counts as used: no operator may delete the
	// shard by hand because of it.
	l.describePublished(shard, state, published.Facts{Exists: pub != nil, Users: len(users) > 0 || unread != nil}, pub, info)
	return info, errs.Join(err, unread)
}

// describePublished describes the shard under its public name, by its manifest.
func (l *listing) describePublished(shard published.Shard, state *statedir.Dir, facts published.Facts, pub *sys.Stat, info *ShardInfo) {
	m, err := shard.OpenManifest(state, pub)
	if err != nil && !errors.Is(err, published.ErrNoManifest) {
		l.warn("%v", err)
	}
	facts.Bound = m != nil
	info.State = State(published.Decide(facts).State)
	if m == nil {
		return
	}
	defer m.Close()
	info.Files, info.Bytes, info.Source, info.Published = m.Files, m.Bytes, m.Source, &m.Time
	records, err := state.VerifyRecords(m)
	if err != nil {
		l.warn("%v", err)
	}
	if r := records.Passed; r != nil {
		info.Verified, info.ReadBack = &r.Time, r.Mode
	}
	if r := records.Damaged; r != nil {
		info.Damaged, info.DamagedReadBack, info.Differences = &r.Time, r.Mode, r.Differences
	}
}
