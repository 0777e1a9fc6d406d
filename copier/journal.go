package copier

import (
	"context"
	"encoding/binary"
	"fmt"
	"io/fs"
	"math"

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
// for the plan with that sum. What else is there is of no use.
func openJournal(state *sys.File, planSum uint64) (j *journal, kept bool, err error) {
	f, err := state.OpenAt(journalName, unix.O_RDWR, 0)
	if sys.Is(err, unix.ENOENT, unix.ELOOP, unix.EISDIR, unix.ENXIO) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	if kept, err = isJournalOf(f, planSum); kept {
		return &journal{f}, true, nil
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	return nil, false, err
}

func isJournalOf(f *sys.File, planSum uint64) (bool, error) {
	s, err := f.Stat()
	if err != nil || !s.IsRegular() {
		return false, err
	}
	head := make([]byte, journalHeader)
	n, err := f.ReadAt(head, len(head), 0)
	return err == nil && n == len(head) && string(head) == string(headOf(planSum)), err
}

// newJournal starts a journal for a plan.
func newJournal(state *sys.File, planSum uint64) (*journal, error) {
	f, err := state.OpenAt(journalName, createNew, 0o600)
	if err != nil {
		return nil, err
	}
	if err := f.WriteAt(headOf(planSum), 0); err != nil {
		f.Close() //nolint:errcheck // after a failure
		return nil, err
	}
	return &journal{f}, nil
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

// A run puts sums of slots that mostly follow each other, some at a time. What it has
// not put is lost with the process: so many small files are copied again.
type run struct {
	j     *journal
	first int64
	sums  []byte
}

const runSlots = 64

func (r *run) put(slot int64, sum uint64) error {
	if n := int64(len(r.sums)) / 8; slot != r.first+n || n == runSlots {
		if err := r.flush(); err != nil {
			return err
		}
		r.first = slot
	}
	r.sums = binary.LittleEndian.AppendUint64(r.sums, sum)
	return nil
}

func (r *run) flush() error {
	if len(r.sums) == 0 {
		return nil
	}
	err := r.j.file.WriteAt(r.sums, journalHeader+8*r.first)
	r.sums = r.sums[:0]
	return err
}

// putAgain keeps the sum of a slot that did not read back as it should. The journal
// itself may be what is wrong: the manifest will be made of it.
func (j *journal) putAgain(slot int64, sum uint64) error {
	if err := j.put(slot, sum); err != nil {
		return err
	}
	got, err := j.get(slot)
	if err == nil && got != sum {
		err = &fs.PathError{Op: "read", Path: j.file.Path(), Err: fmt.Errorf("sum %d is %016x, and %016x was written", slot, got, sum)}
	}
	return err
}

// get is the sum of one slot, 0 if there is none.
func (j *journal) get(slot int64) (sum uint64, err error) {
	sums, err := j.read(slot, 1)
	if len(sums) == 0 {
		return 0, err
	}
	return sums[0], err
}

// must are the sums of n slots that have been put: a journal that ends before one
// is an error. A sum of 0 in a manifest would make whole data look damaged for
// ever.
func (j *journal) must(slot, n int64) ([]uint64, error) {
	sums, err := j.read(slot, n)
	if have := int64(len(sums)); err == nil && have < n {
		err = &fs.PathError{Op: "read", Path: j.file.Path(), Err: fmt.Errorf("it ends before sum %d, which was written", slot+have)}
	}
	return sums, err
}

// read are n slots, or as many of them as the journal has.
func (j *journal) read(slot, n int64) (sums []uint64, err error) {
	buf := make([]byte, 8*n)
	got, err := j.file.ReadAt(buf, len(buf), journalHeader+8*slot)
	for i := 0; i+8 <= got; i += 8 {
		sums = append(sums, binary.LittleEndian.Uint64(buf[i:]))
	}
	return sums, err
}

// A scan goes over the sums of a journal, from its start on.
type scan struct {
	ctx   context.Context
	j     *journal
	hole  int64 // from this slot to first there is nothing
	first int64 // slot of sums[0]
	sums  []uint64
	over  int64 // from this slot on there is nothing
}

// scanned is how many slots a scan reads at once: 64 KiB.
const scanned = 8 << 10

func (j *journal) scan(ctx context.Context) *scan {
	return &scan{ctx: ctx, j: j, over: math.MaxInt64}
}

// next is the first slot from slot up to, but without, end that has a sum; end if
// there is none.
func (s *scan) next(slot, end int64) (int64, error) {
	for limit := min(end, s.over); slot < limit; limit = min(end, s.over) {
		switch {
		case slot < s.hole || slot >= s.first+int64(len(s.sums)):
			if err := s.load(slot); err != nil {
				return end, err
			}
		case slot < s.first:
			slot = s.first
		case s.sums[slot-s.first] != 0:
			return slot, nil
		default:
			slot++
		}
	}
	return end, nil
}

// load reads slots from the first that can have a sum, from slot on: a journal may
// be one hole of any length.
func (s *scan) load(slot int64) error {
	if s.ctx.Err() != nil {
		return context.Cause(s.ctx)
	}
	data, _, some, err := s.j.file.Data(journalHeader + 8*slot)
	if err != nil {
		return err
	}
	if s.sums = nil; some {
		s.hole, s.first = slot, max(slot, (data-journalHeader)/8)
		s.sums, err = s.j.read(s.first, scanned)
	}
	if len(s.sums) == 0 {
		s.over = slot
	}
	return err
}

// SyncJournal brings the journal onto stable storage: an error of writing it back must
// be known before the manifest is made of it.
func (s *Stage) SyncJournal() error { return s.journal.file.SyncData() }

// sums reads sums that are asked for one after the other, mostly in their order, many
// at once. It is for one goroutine, and for sums that nobody changes meanwhile.
type sums struct {
	j     *journal
	first int64
	have  []uint64
}

// of is the sum of a slot; a journal that ends before it is an error.
func (s *sums) of(slot int64) (uint64, error) {
	if at := slot - s.first; at < 0 || at >= int64(len(s.have)) {
		var err error
		s.first = slot
		if s.have, err = s.j.read(slot, sumsAtOnce); err == nil && len(s.have) == 0 {
			s.have, err = s.j.must(slot, 1) // says what is wrong
		}
		if err != nil {
			return 0, err
		}
	}
	return s.have[slot-s.first], nil
}

// sumsAtOnce is a batch.
const sumsAtOnce = batchEntries

// Sum is XXH64 of a whole regular file of the plan, after the copy. It is for one
// goroutine.
func (s *Stage) Sum(it *Item) (uint64, error) {
	if s.sums.j == nil {
		s.sums.j = s.journal
	}
	return s.sums.of(it.slot + slots(it.Size) - 1)
}

// BlockSums are the sums of n blocks of a file, from block first on.
func (s *Stage) BlockSums(it *Item, first, n int64) ([]uint64, error) {
	return s.journal.must(it.slot+first, n)
}
