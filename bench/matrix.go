package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"golang.org/x/sys/unix"

	"shard_to_ssd/copier"
	"shard_to_ssd/internal/humanize"
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/tree"
)

// manyFiles is the number of files from which copies are kept until all are measured.
// ext4 avoids inodes that were freed in the last half minute, which makes the creation of
// new files slower.
const manyFiles = 1000

// matrix has the cases and the shard that each of them copies.
type matrix struct {
	cases  []Case
	shards []*shard // one for each case
}

// makeMatrix makes a case for each workload, engine, block size and number of workers. A
// workload without large files has only the last block size, because its requests are
// never that large.
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

// forEachShuffled calls do for each of n in every round. Each round has a new order, so
// that changes over time, such as heat, affect all of them alike. next is the index after
// i, or -1 after the last one.
func forEachShuffled(seed uint64, rounds, n int, do func(i, next int) error) error {
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

// stepName names the copies of the case in progress messages.
func (c *Case) stepName() string {
	return fmt.Sprintf("copy %s, engine %s, requests of %s, %s", c.Workload, c.Engine, FormatBytes(c.Block), humanize.Count(c.Jobs, "worker"))
}

// measureCase makes one copy for case i.
func (r *runner) measureCase(ctx context.Context, m *matrix, i, next int) error {
	c, from := &m.cases[i], m.shards[i]
	if c.Refused != "" {
		r.skipStep(2 * c.Bytes)
		return nil
	}
	after := readersStep
	if next >= 0 {
		after = m.cases[next].stepName()
	}
	r.begin(2*c.Bytes, c.stepName(), after)
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
	defer state.Close()
	how := copying{engine: copier.Engine(c.Engine), block: c.Block, jobs: c.Jobs, moved: r.moved, tool: r.Version, useProcessors: r.useProcessors}
	sample, copied, err := how.run(ctx, from.path, state)
	if err != nil {
		return fmt.Errorf("copy %s with engine %s: %w", c.Workload, c.Engine, err)
	}
	r.written.Add(max(from.stored-copied.Engines[copier.Clone].Bytes, 0))
	if cached != nil && *cached > c.Bytes/100 {
		r.warn(fmt.Sprintf("%s: %s were in the page cache before a copy, so the copy did not read them from the drive", c.Workload, FormatBytes(*cached)))
	}
	if c.Refused, err = r.refusalOf(ctx, c, from, copied, state); err != nil {
		return err
	}
	sample.Cached = cached
	c.Samples = append(c.Samples, sample)
	if c.Refused != "" {
		c.Samples = []Sample{}
		r.warn(fmt.Sprintf("%s, engine %s: no result: %s", c.Workload, c.Engine, c.Refused))
	}
	if c.Files >= manyFiles && !r.deleteEachCopy {
		return nil
	}
	return r.work.delete(ctx, name)
}

// refusalOf returns the reason why a copy proves nothing about the engine or the drive,
// or "".
func (r *runner) refusalOf(ctx context.Context, c *Case, from *shard, copied *copier.Result, state *sys.File) (string, error) {
	if u := copied.Engines[copier.Clone]; u.Bytes > 0 {
		return fmt.Sprintf("extents are shared: %d of %d bytes were cloned, so they did not move", u.Bytes, c.Bytes), nil
	}
	if asked := copier.Engine(c.Engine); asked != copier.Auto && copied.Engines[asked].Bytes < c.Bytes {
		for other, u := range copied.Engines {
			if other != asked && u.Bytes > 0 {
				return fmt.Sprintf("this engine does not work here: %s moved %d of %d bytes", other, u.Bytes, c.Bytes), nil
			}
		}
	}
	path, known, err := findSharedFile(ctx, from, state)
	if path != "" {
		return fmt.Sprintf("extents are shared: %q shares them with its source, so they did not move", path), err
	}
	if err == nil && !known {
		r.warn("this file system does not report shared extents: it is not proven that all bytes moved")
	}
	return "", err
}

// sharedFilesChecked is the number of files that are checked for shared extents. An
// engine that shares extents does so from the first file on.
const sharedFilesChecked = 256

// findSharedFile returns the path of the first file of the copy that shares extents with
// another file. known is false if the file system does not report them.
func findSharedFile(ctx context.Context, from *shard, state *sys.File) (path string, known bool, err error) {
	checked, enough := 0, errors.New("enough")
	known = true
	err = from.plan.EachEntry(ctx, func(it *copier.PlanEntry) error {
		if it.Kind != tree.Regular || it.Size == 0 {
			return nil
		}
		if checked++; checked > sharedFilesChecked {
			return enough
		}
		f, err := openCopy(from, state, it)
		if err != nil {
			return err
		}
		defer f.Close()
		shared, reported, err := f.SharesExtents()
		switch {
		case err != nil:
			return err
		case shared:
			path = it.RelativePath()
		case !reported:
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

// openCopy opens the copy of a file.
func openCopy(from *shard, state *sys.File, it *copier.PlanEntry) (*sys.File, error) {
	if from.src.IsFile() {
		return state.OpenAt(copier.StageName, unix.O_RDONLY, 0)
	}
	dir, err := state.OpenBelow(tree.JoinPath(copier.StageName, it.Path))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	return dir.OpenAt(it.Name, unix.O_RDONLY, 0)
}
