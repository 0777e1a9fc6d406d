package copier

import (
	"context"

	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/tree"
)

// Stage is the private tree, or the one file, in which a copy is built.
type Stage struct {
	location
	state   *sys.File
	journal *journal

	// Resumed reports whether the stage resumes an interrupted copy.
	Resumed bool
	// Kept is the number of bytes that the interrupted copy has left, if they read back
	// equal.
	Kept   int64
	clones bool      // the files of the source can be cloned into the stage
	sums   sumReader // of Sum

	// Discarded reports whether OpenStage deleted an old stage that it did not resume.
	Discarded bool
}

// StageOptions say how a stage is opened.
type StageOptions struct {
	Resume bool // resume a stage whose journal belongs to the same plan
	Jobs   int  // goroutines that delete a stage that is not resumed
}

// OpenStage opens the stage in the state dir of the plan. With StageOptions.Resume it
// resumes a stage whose journal belongs to the same plan. Otherwise it deletes the old
// stage, and makes an empty one. The caller must close the stage.
func (p *Plan) OpenStage(ctx context.Context, o StageOptions) (*Stage, error) {
	s := &Stage{state: p.state}
	s.base, s.prefix = p.state, StageName
	if p.src.IsFile() {
		s.prefix, s.file = "", StageName
	}
	old, err := p.state.StatAt(StageName)
	exists := err == nil
	if err != nil && !sys.IsErrno(err, unix.ENOENT) {
		return nil, err
	}
	if exists && o.Resume && p.mayBeStage(&old) {
		if s.journal, s.Resumed, err = openJournal(p.state, p.sum); err != nil {
			return nil, err
		}
	}
	if s.Resumed {
		if s.Kept, _, err = journalProgress(ctx, p.file, s.journal); err != nil {
			_ = s.Close() // nothing was written to it
		}
		return s, err
	}
	s.Discarded = exists
	if err := RemoveStage(ctx, p.state, o.Jobs); err != nil {
		return nil, err
	}
	s.journal, err = newJournal(p.state, p.sum)
	return s, err
}

// mayBeStage reports whether an entry can be a stage of the plan: a directory, or for a
// single file a regular file with one name.
func (p *Plan) mayBeStage(s *sys.Stat) bool {
	if p.src.IsFile() {
		return s.IsRegular() && s.Nlink == 1
	}
	return s.IsDir()
}

// IsFile reports whether the stage is one regular file.
func (s *Stage) IsFile() bool { return s.file != "" }

// Close closes the stage. Its files stay.
func (s *Stage) Close() error { return s.journal.file.Close() }

// RemoveStage deletes the stage and its journal from a state dir, with that number of jobs.
// It is not an error if they do not exist. The journal goes first: without it, no copy
// resumes a part of the stage.
func RemoveStage(ctx context.Context, state *sys.File, jobs int) error {
	if err := RemoveJournal(ctx, state); err != nil {
		return err
	}
	return tree.RemoveTree(ctx, state, StageName, jobs)
}

// RemoveJournal deletes the journal from a state dir, if there is one. The entry can be of
// any type.
func RemoveJournal(ctx context.Context, state *sys.File) error {
	return tree.RemoveTree(ctx, state, journalName, 1)
}

// RemovePlan deletes the plan from a state dir, if there is one. The entry can be of any
// type.
func RemovePlan(ctx context.Context, state *sys.File) error {
	return tree.RemoveTree(ctx, state, planName, 1)
}

// IsPlanOrJournal reports whether name is the plan or the journal. A state dir needs them only
// while a stage is built.
func IsPlanOrJournal(name string) bool { return name == planName || name == journalName }

// StageProgress returns how many bytes the journal in a state dir records as copied, and the
// size of the shard in bytes. It is for a copy that another process makes. While that
// process works, the numbers are approximate. Without a plan and a journal it fails.
func StageProgress(ctx context.Context, state *sys.File) (done, total int64, err error) {
	plan, err := state.OpenAt(planName, unix.O_RDONLY, 0)
	if err != nil {
		return 0, 0, err
	}
	defer plan.Close()
	file, err := state.OpenAt(journalName, unix.O_RDONLY, 0)
	if err != nil {
		return 0, 0, err
	}
	defer file.Close()
	return journalProgress(ctx, plan, &journal{file})
}

// journalProgress returns the bytes of the blocks that the journal has, and of all blocks.
// Its time depends on the length of the plan and on the data in the journal, not on the
// sizes of files that the plan claims.
func journalProgress(ctx context.Context, plan *sys.File, j *journal) (done, total int64, err error) {
	sums := j.newScan(ctx)
	err = eachItem(ctx, plan, func(it *PlanEntry) error {
		if it.Kind != tree.Regular {
			return nil
		}
		total += it.Size
		end := it.slot + tree.BlockCount(it.Size)
		for slot, err := sums.nextSum(it.slot, end); slot < end || err != nil; slot, err = sums.nextSum(slot+1, end) {
			if err != nil {
				return err
			}
			done += int64(tree.BlockLen(it.Size, slot-it.slot))
		}
		return nil
	})
	return done, total, err
}
