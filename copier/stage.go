package copier

import (
	"context"

	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/tree"
)

// Stage is the private tree in which a copy is built.
type Stage struct {
	side
	state   *sys.File
	journal *journal

	// Resumed says that the stage goes on from an interrupted copy; Kept is how
	// many bytes of it that copy has left here, if they read back.
	Resumed bool
	Kept    int64
	clones  bool // the source's files can be cloned into it
	sums    sums // for Sum

	// Discarded says that there was a stage which could not be gone on with.
	Discarded bool
}

// OpenStage makes the stage of a plan in its state dir, or goes on with the one
// there if resume allows it and its journal was made for the same plan. Close
// it.
func (p *Plan) OpenStage(ctx context.Context, resume bool, jobs int) (*Stage, error) {
	s := &Stage{state: p.state}
	s.base, s.prefix = p.state, StageName
	if p.src.IsFile() {
		s.prefix, s.file = "", StageName
	}
	there, err := p.state.StatAt(StageName)
	exists := err == nil
	if err != nil && !sys.Is(err, unix.ENOENT) {
		return nil, err
	}
	if exists && resume && p.mayBeStage(&there) {
		if s.journal, s.Resumed, err = openJournal(p.state, p.sum); err != nil {
			return nil, err
		}
	}
	if s.Resumed {
		s.Kept, _, err = progress(ctx, p.file, s.journal)
		if err != nil {
			s.Close() //nolint:errcheck // opened for reading so far
		}
		return s, err
	}
	s.Discarded = exists
	if err := RemoveStage(ctx, p.state, jobs); err != nil {
		return nil, err
	}
	s.journal, err = newJournal(p.state, p.sum)
	return s, err
}

// mayBeStage reports whether what has the name of the stage is of its type, and a
// single file nowhere else.
func (p *Plan) mayBeStage(s *sys.Stat) bool {
	if p.src.IsFile() {
		return s.IsRegular() && s.Nlink == 1
	}
	return s.IsDir()
}

// Close closes the stage and leaves it as it is.
func (s *Stage) Close() error { return s.journal.file.Close() }

// RemoveStage deletes a stage and its journal, the journal first: without it
// nobody goes on with what is left.
func RemoveStage(ctx context.Context, state *sys.File, jobs int) error {
	if err := DropJournal(ctx, state); err != nil {
		return err
	}
	return tree.Remove(ctx, state, StageName, jobs)
}

// DropJournal deletes the journal, also one that is not a file.
func DropJournal(ctx context.Context, state *sys.File) error {
	return tree.Remove(ctx, state, journalName, 1)
}

// Bookkeeping reports whether name is one of the files in a state dir that only
// the building of a stage needs.
func Bookkeeping(name string) bool { return name == planName || name == journalName }

// DropPlan deletes the plan, also one that is not a file.
func DropPlan(ctx context.Context, state *sys.File) error {
	return tree.Remove(ctx, state, planName, 1)
}

// progress adds up the bytes of the blocks that the journal has, and of all. It
// takes as long as the plan and what was written of the journal, whatever size
// the plan says that a file has.
func progress(ctx context.Context, plan *sys.File, j *journal) (done, total int64, err error) {
	sums := j.scan(ctx)
	err = eachItem(ctx, plan, func(it *Item) error {
		if it.Kind != tree.Regular {
			return nil
		}
		total += it.Size
		end := it.slot + tree.Blocks(it.Size)
		for slot, err := sums.next(it.slot, end); slot < end || err != nil; slot, err = sums.next(slot+1, end) {
			if err != nil {
				return err
			}
			done += int64(tree.BlockLen(it.Size, slot-it.slot))
		}
		return nil
	})
	return done, total, err
}

// Progress is how much of a stage in a state dir is copied, in bytes, for those
// who look at a copy of another process. It is about right while that one works.
func Progress(ctx context.Context, state *sys.File) (done, total int64, err error) {
	plan, err := state.OpenAt(planName, unix.O_RDONLY, 0)
	if err != nil {
		return 0, 0, err
	}
	defer plan.Close() //nolint:errcheck // opened for reading
	file, err := state.OpenAt(journalName, unix.O_RDONLY, 0)
	if err != nil {
		return 0, 0, err
	}
	defer file.Close() //nolint:errcheck // opened for reading
	return progress(ctx, plan, &journal{file})
}

// IsFile reports whether the stage is one regular file.
func (s *Stage) IsFile() bool { return s.file != "" }
