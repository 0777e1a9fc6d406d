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

// StageName is the name of the stage in its state dir.
const StageName = "stage"

// The other names that this package uses in a state dir.
const (
	planName    = "plan"
	journalName = "journal"
)

const createNew = unix.O_RDWR | unix.O_CREAT | unix.O_EXCL

// Totals are the numbers of a source.
type Totals struct {
	Dirs, Files, Symlinks int64
	HardLinks             int64 // further names of files that Files or Symlinks count

	Bytes     int64 // the lengths of the regular files, each hard-linked file once
	Allocated int64 // bytes that the copy takes on a file system of 4 KiB blocks
	segments  int64 // of files of more than one block
	slots     int64 // in the journal

	EscapingSymlinks     int64  // symbolic links that lead out of the shard
	FirstEscapingSymlink string // the path of the first one, below the shard
	SkippedXattrs        int64  // extended attributes that are not carried
	FirstSkippedXattr    string // the name of the first one
}

// Entries returns the number of names in the shard.
func (t *Totals) Entries() int64 { return t.Dirs + t.Files + t.Symlinks + t.HardLinks }

func (t *Totals) addFile(r *tree.Record) {
	t.Files++
	t.Bytes += r.Size
	t.slots += slotCount(r.Size)
	if blocks := tree.BlockCount(r.Size); blocks > 1 {
		t.segments += segmentCount(blocks)
	}
	t.Allocated += allocatedSize(r)
}

// fsBlockSize is the usual size of a block of a file system, in bytes.
const fsBlockSize = 4096

// allocatedSize returns the bytes that the copy of a file takes on the SSD.
func allocatedSize(r *tree.Record) int64 {
	full := (r.Size + fsBlockSize - 1) / fsBlockSize * fsBlockSize
	if r.IsSparse() {
		return min(full, r.Source.Blocks*512)
	}
	return full
}

// slotCount returns the number of sums that the journal keeps of a file: one for each
// block, and one for the whole file if it has several blocks.
func slotCount(size int64) int64 {
	if blocks := tree.BlockCount(size); blocks > 1 {
		return blocks + 1
	}
	return 1
}

// Plan is the list of the entries of a source as the walk found them. It is a file in
// the state dir.
type Plan struct {
	Totals
	src    *Source
	state  *sys.File
	file   *sys.File
	probes xattrProbes
	sum    uint64
}

// MakePlan walks the source and writes the plan into the state dir, over an older plan.
// It checks that the file system of the state dir takes the extended attributes of the
// source. The error contains ErrRefused if the source holds an entry that is not a file,
// directory or symbolic link. The caller must close the plan.
func MakePlan(ctx context.Context, src *Source, state *sys.File) (*Plan, error) {
	return MakePartialPlan(ctx, src, state, nil)
}

// MakePartialPlan is MakePlan for the entries of a set, and for the directories above
// them; nil means all entries. Only a plan of the same entries resumes its stage.
func MakePartialPlan(ctx context.Context, src *Source, state *sys.File, only *tree.PathSet) (*Plan, error) {
	if err := RemovePlan(ctx, state); err != nil {
		return nil, err
	}
	file, err := state.OpenAt(planName, createNew, 0o600)
	if err != nil {
		return nil, err
	}
	p := &Plan{src: src, state: state, file: file}
	if err := p.walkAndProbe(ctx, only); err != nil {
		_ = file.Close() // an unfinished plan is never read
		return nil, err
	}
	return p, nil
}

func (p *Plan) walkAndProbe(ctx context.Context, only *tree.PathSet) error {
	if err := walkSource(ctx, p.src, p.file.Stream(), p, only); err != nil {
		return err
	}
	return p.probes.checkSupport(p.state)
}

// Close closes the file of the plan.
func (p *Plan) Close() error { return p.file.Close() }

// PlanEntry is an entry of the plan, with the place of its sums in the journal.
type PlanEntry struct {
	tree.Record
	slot  int64
	kept  bool      // an interrupted copy has left it in the stage
	begun time.Time // of a small file, for the Timer
}

// EachEntry calls f for every entry of the plan, in the order of the plan. It stops at the first
// error of f and returns that error. The item is valid until f returns.
func (p *Plan) EachEntry(ctx context.Context, f func(*PlanEntry) error) error {
	return eachItem(ctx, p.file, f)
}

func eachItem(ctx context.Context, plan *sys.File, f func(*PlanEntry) error) error {
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
		it := PlanEntry{Record: *r, slot: slot}
		if r.Kind == tree.Regular {
			slot += slotCount(r.Size)
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

// batch is some entries of one directory: the unit of work for small files.
type batch struct {
	path    string // of the directory
	entries []PlanEntry
	bytes   int64
}

// The limits of a batch. They are small, so that no worker is busy long after the
// others.
const (
	batchEntries = 256
	batchBytes   = 16 << 20
)

// eachBatch groups the entries that match, and calls f for each group.
func (p *Plan) eachBatch(ctx context.Context, match func(*PlanEntry) bool, f func(*batch) error) error {
	b := &batch{}
	flush := func() error {
		full := b
		b = &batch{}
		if len(full.entries) == 0 {
			return nil
		}
		return f(full)
	}
	err := p.EachEntry(ctx, func(it *PlanEntry) error {
		if !match(it) {
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
