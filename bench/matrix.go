package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"golang.org/x/sys/unix"

	"shard_to_ssd/copier"
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/tree"
)

// manyFiles is from how many files on a copy is kept until all are measured: ext4 avoids
// inodes that were just freed for half a minute, and taxes whoever makes files then.
const manyFiles = 1000

// matrix are the cases, and what each of them copies.
type matrix struct {
	cases  []Case
	shards []*shard // of each case
}

// makeMatrix has a case for each workload, engine, block size and number of workers. Of
// a workload without large files the block size means nothing: it has the last only.
func makeMatrix(shards []*shard, s *settings) *matrix {
	m := &matrix{}
	for _, from := range shards {
		blocks := s.blocks
		if !from.hasLarge() {
			blocks = blocks[len(blocks)-1:]
		}
		for _, engine := range s.engines {
			for _, block := range blocks {
				for _, jobs := range s.jobs {
					m.cases = append(m.cases, Case{Workload: from.name, Engine: engine.String(), Block: block, Jobs: jobs,
						Files: from.plan.Files, Bytes: from.plan.Bytes, Samples: []Sample{}})
					m.shards = append(m.shards, from)
				}
			}
		}
	}
	return m
}

// rounds calls do for each of n, in a new order each round, so that what changes with
// time, such as heat, changes all alike. next comes after i, -1: nothing.
func rounds(seed uint64, rounds, n int, do func(i, next int) error) error {
	random := rand.New(rand.NewPCG(seed, 2))
	var order []int
	for range rounds {
		order = append(order, random.Perm(n)...)
	}
	order = append(order, -1)
	for k, i := range order[:len(order)-1] {
		if err := do(i, order[k+1]); err != nil {
			return err
		}
	}
	return nil
}

// what a copy is called.
func (c *Case) what() string {
	return fmt.Sprintf("copy %s, engine %s, requests of %s, %d workers", c.Workload, c.Engine, Bytes(c.Block), c.Jobs)
}

// measureCase copies once for case i.
func (r *runner) measureCase(ctx context.Context, m *matrix, i, next int) error {
	c, from := &m.cases[i], m.shards[i]
	if c.Refused != "" {
		r.skip(2 * c.Bytes)
		return nil
	}
	after := readersStep
	if next >= 0 {
		after = m.cases[next].what()
	}
	r.begin(2*c.Bytes, c.what(), after)
	if err := r.work.checkReserve(from.stored); err != nil {
		return err
	}
	cached, err := r.cooler.cool(ctx, from)
	if err != nil {
		return err
	}
	r.copies++
	name := fmt.Sprint("copy-", r.copies)
	state, err := mkdir(r.work.File, name)
	if err != nil {
		return err
	}
	defer state.Close() //nolint:errcheck // opened for reading
	how := copying{engine: copier.Engine(c.Engine), block: c.Block, jobs: c.Jobs, moved: r.moved, tool: r.Version, processors: r.processors}
	sample, did, err := how.run(ctx, from.path, state)
	if err != nil {
		return fmt.Errorf("copy %s with engine %s: %w", c.Workload, c.Engine, err)
	}
	r.written.Add(max(from.stored-did.Engines[copier.Clone].Bytes, 0))
	if cached != nil && *cached > c.Bytes/100 {
		r.warn(fmt.Sprintf("%s: %s of it were in the page cache before a copy: that was not read from the drive", c.Workload, Bytes(*cached)))
	}
	if c.Refused, err = r.noResult(ctx, c, from, did, state); err != nil {
		return err
	}
	if c.Refused != "" {
		c.Samples = []Sample{}
		r.warn(fmt.Sprintf("%s, engine %s: no result: %s", c.Workload, c.Engine, c.Refused))
	} else {
		sample.Cached = cached
		c.Samples = append(c.Samples, sample)
	}
	if c.Files >= manyFiles && !r.deletes {
		return nil
	}
	return r.work.delete(ctx, name)
}

// noResult says why a copy says nothing of the engine or the device, or "".
func (r *runner) noResult(ctx context.Context, c *Case, from *shard, did *copier.Result, state *sys.File) (string, error) {
	if u := did.Engines[copier.Clone]; u.Bytes > 0 {
		return fmt.Sprintf("extents are shared: %d of %d bytes were cloned, and did not move", u.Bytes, c.Bytes), nil
	}
	if asked := copier.Engine(c.Engine); asked != copier.Auto && did.Engines[asked].Bytes < c.Bytes {
		for other, u := range did.Engines {
			if other != asked && u.Bytes > 0 {
				return fmt.Sprintf("this engine does not work here: %d of %d bytes were moved by %s", u.Bytes, c.Bytes, other), nil
			}
		}
	}
	path, known, err := sharedFile(ctx, from, state)
	if path != "" {
		return fmt.Sprintf("extents are shared: those of %q with its source, and did not move", path), err
	}
	if err == nil && !known {
		r.warn("this file system does not tell whether files have extents in common: that all of them moved is not proven")
	}
	return "", err
}

// sharedFiles is how many files of a copy are looked at for shared extents: an engine
// that shares does so from the first on.
const sharedFiles = 256

// sharedFile is the first file of the copy that has extents in common with another. known
// is false if the file system does not tell.
func sharedFile(ctx context.Context, from *shard, state *sys.File) (path string, known bool, err error) {
	looked, enough := 0, errors.New("enough")
	known = true
	err = from.plan.Each(ctx, func(it *copier.Item) error {
		if it.Kind != tree.Regular || it.Size == 0 {
			return nil
		}
		if looked++; looked > sharedFiles {
			return enough
		}
		f, err := openCopy(from, state, it)
		if err != nil {
			return err
		}
		defer f.Close() //nolint:errcheck // opened for reading
		shared, told, err := f.Shared()
		switch {
		case err != nil:
			return err
		case shared:
			path = it.Below()
		case !told:
			known = false
		default:
			return nil
		}
		return enough
	})
	if err == enough {
		err = nil
	}
	return path, known, err
}

func openCopy(from *shard, state *sys.File, it *copier.Item) (*sys.File, error) {
	if from.src.IsFile() {
		return state.OpenAt(copier.StageName, unix.O_RDONLY, 0)
	}
	dir, err := state.OpenBelow(tree.Join(copier.StageName, it.Path))
	if err != nil {
		return nil, err
	}
	defer dir.Close() //nolint:errcheck // opened for reading
	return dir.OpenAt(it.Name, unix.O_RDONLY, 0)
}
