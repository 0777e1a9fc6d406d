package copier

import (
	"context"
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/tree"
)

// The names that this package uses in a state dir.
const (
	StageName   = "stage"
	planName    = "plan"
	journalName = "journal"
)

const createNew = unix.O_RDWR | unix.O_CREAT | unix.O_EXCL

// Totals is what a source holds. Bytes are the lengths of its regular files,
// every hard-linked file once.
type Totals struct {
	Dirs, Files, Symlinks, HardLinks int64

	Bytes     int64
	Allocated int64 // bytes that the copy takes on a file system of 4 KiB blocks
	segments  int64 // of files of more than a block
	slots     int64 // in the journal

	Escaping      int64 // symbolic links that lead out of the shard
	FirstEscaping string
	SkippedXattrs int64 // extended attributes that are not carried
	FirstSkipped  string
}

// Entries is the number of names in the shard.
func (t *Totals) Entries() int64 { return t.Dirs + t.Files + t.Symlinks + t.HardLinks }

func (t *Totals) addFile(r *tree.Record) {
	t.Files++
	t.Bytes += r.Size
	t.slots += slots(r.Size)
	if blocks := tree.Blocks(r.Size); blocks > 1 {
		t.segments += segments(blocks)
	}
	t.Allocated += allocated(r)
}

// fsBlock is what space is counted in: the usual block of a file system, bytes.
const fsBlock = 4096

func allocated(r *tree.Record) int64 {
	full := (r.Size + fsBlock - 1) / fsBlock * fsBlock
	if r.Sparse() {
		return min(full, r.Source.Blocks*512)
	}
	return full
}

// slots is how many sums the journal keeps of a file: one of each block, and,
// where that is not the same, one of the whole file.
func slots(size int64) int64 {
	if blocks := tree.Blocks(size); blocks > 1 {
		return blocks + 1
	}
	return 1
}

// Plan is the source as the walk found it, kept in a file of the state dir.
type Plan struct {
	Totals
	src    *Source
	state  *sys.File
	file   *sys.File
	probes xattrProbes
	sum    uint64
}

// MakePlan walks the source and writes the plan into the state dir. It asks the
// file system of the state dir whether it takes the source's extended
// attributes. Close it.
func MakePlan(ctx context.Context, src *Source, state *sys.File) (*Plan, error) {
	return MakePartialPlan(ctx, src, state, nil)
}

// MakePartialPlan is MakePlan of some entries, and of the directories on the way to
// them. A stage of it is gone on with by a plan of the same entries only.
func MakePartialPlan(ctx context.Context, src *Source, state *sys.File, only *tree.Only) (*Plan, error) {
	if err := DropPlan(ctx, state); err != nil {
		return nil, err
	}
	file, err := state.OpenAt(planName, createNew, 0o600)
	if err != nil {
		return nil, err
	}
	p := &Plan{src: src, state: state, file: file}
	if err = walk(ctx, src, file.Stream(), p, only); err == nil {
		err = p.probes.check(state)
	}
	if err != nil {
		file.Close() //nolint:errcheck // a plan that nobody will read
		return nil, err
	}
	return p, nil
}

// Close closes the plan's file.
func (p *Plan) Close() error { return p.file.Close() }

// Item is a record of the plan and where the journal has its sums.
type Item struct {
	tree.Record
	slot  int64
	kept  bool      // it is in the stage from an interrupted copy
	begun time.Time // of a small file, for the Timer
}

// Each calls f for every record of the plan, in its order. The item is valid
// until f returns.
func (p *Plan) Each(ctx context.Context, f func(*Item) error) error {
	return eachItem(ctx, p.file, f)
}

func eachItem(ctx context.Context, plan *sys.File, f func(*Item) error) error {
	d, err := tree.NewDecoder(plan.Stream(), tree.PlanKind, planVersion)
	slot := int64(0)
	for n := 0; err == nil; n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		var r *tree.Record
		if r, err = d.Next(); err != nil {
			break
		}
		it := Item{Record: *r, slot: slot}
		if r.Kind == tree.Regular {
			slot += slots(r.Size)
		}
		if err := f(&it); err != nil {
			return err
		}
	}
	if err == io.EOF {
		return nil
	}
	return fmt.Errorf("read %s: %w", plan.Path(), err)
}

// A batch is some entries of one directory, the unit of work for small files.
type batch struct {
	path    string // of the directory
	entries []Item
	bytes   int64
}

// One batch is little enough that no worker is the last for long.
const (
	batchEntries = 256
	batchBytes   = 16 << 20
)

// batches groups the records that want holds for, a directory at a time.
func (p *Plan) batches(ctx context.Context, want func(*Item) bool, f func(*batch) error) error {
	b := &batch{}
	flush := func() error {
		full := b
		b = &batch{}
		if len(full.entries) == 0 {
			return nil
		}
		return f(full)
	}
	err := p.Each(ctx, func(it *Item) error {
		if !want(it) {
			return nil
		}
		if it.Path != b.path || len(b.entries) == batchEntries || b.bytes > batchBytes {
			if err := flush(); err != nil {
				return err
			}
			b.path = it.Path
		}
		b.entries = append(b.entries, *it)
		b.bytes += it.Size
		return nil
	})
	if err != nil {
		return err
	}
	return flush()
}
