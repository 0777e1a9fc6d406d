package copier

import (
	"encoding/binary"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/sys"
)

// The journal is what an interrupted copy goes on from: a header that binds it
// to one plan, then XXH64 of each block of the source in the order of the plan, 0
// where the block is not in the stage yet. It is written through the page cache
// and never synced before the end: what it says is believed only of blocks that
// read back to the sum it gives.
type journal struct{ file *sys.File }

const (
	journalMagic  = "ssdjrnl1"
	journalHeader = 16 // bytes: the magic, then the sum of the plan
)

// openJournal opens the journal in the state dir; kept says that there is one
// for the plan with that sum. Otherwise there is none any more.
func openJournal(state *sys.File, planSum uint64) (j *journal, kept bool, err error) {
	f, err := state.OpenAt(journalName, unix.O_RDWR, 0)
	if sys.Is(err, unix.ENOENT) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	head := make([]byte, journalHeader)
	n, err := f.ReadAt(head, len(head), 0)
	if err == nil && n == len(head) && string(head) == string(headOf(planSum)) {
		return &journal{f}, true, nil
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = state.UnlinkAt(journalName)
	}
	return nil, false, err
}

// newJournal starts a journal for a plan.
func newJournal(state *sys.File, planSum uint64) (*journal, error) {
	f, err := state.OpenAt(journalName, createNew, 0o600)
	if err != nil {
		return nil, err
	}
	return &journal{f}, f.WriteAt(headOf(planSum), 0)
}

func headOf(planSum uint64) []byte {
	return binary.LittleEndian.AppendUint64([]byte(journalMagic), planSum)
}

// put keeps the sum of one slot.
func (j *journal) put(slot int64, sum uint64) error {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], sum)
	return j.file.WriteAt(b[:], journalHeader+8*slot)
}

// get is the sum of one slot, 0 if there is none.
func (j *journal) get(slot int64) (sum uint64, err error) {
	sum, _, err = j.read(slot)
	return sum, err
}

// must is get of a slot that has been put: a journal that ends before it is an
// error. A sum of 0 in a manifest would make whole data look damaged for ever.
func (j *journal) must(slot int64) (uint64, error) {
	sum, whole, err := j.read(slot)
	if err == nil && !whole {
		err = &fs.PathError{Op: "read", Path: j.file.Path(), Err: fmt.Errorf("it ends before sum %d, which was written", slot)}
	}
	return sum, err
}

// read is a slot, and whether the journal has all of it.
func (j *journal) read(slot int64) (sum uint64, whole bool, err error) {
	var b [8]byte
	n, err := j.file.ReadAt(b[:], len(b), journalHeader+8*slot)
	return binary.LittleEndian.Uint64(b[:]), n == len(b), err
}

// Sum is XXH64 of a whole regular file of the plan.
func (s *Stage) Sum(it *Item) (uint64, error) {
	return s.journal.must(it.slot + slots(it.Size) - 1)
}

// BlockSums are the sums of n blocks of a file, from block first on.
func (s *Stage) BlockSums(it *Item, first, n int64) ([]uint64, error) {
	sums := make([]uint64, n)
	for i := range sums {
		var err error
		if sums[i], err = s.journal.must(it.slot + first + int64(i)); err != nil {
			return nil, err
		}
	}
	return sums, nil
}
