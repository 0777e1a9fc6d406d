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

// The journal is the record from which an interrupted copy is resumed. It is a header
// that binds it to one plan, followed by the XXH64 of each block of the source in the
// order of the plan. A sum of 0 means that the block is not in the stage yet. The journal
// is written through the page cache and not synced before the end, because it is not
// trusted: a block counts as copied only if it reads back to the sum in the journal.
type journal struct{ file *sys.File }

const (
	journalMagic  = "ssdjrnl1"
	journalHeader = 16 // bytes: the magic, then the sum of the plan
)

// openJournal opens the journal in the state dir. found reports whether there is a
// journal for the plan with that sum. A journal of another plan, or an entry that is not
// a journal, is not an error.
func openJournal(state *sys.File, planSum uint64) (j *journal, found bool, err error) {
	f, err := state.OpenAt(journalName, unix.O_RDWR, 0)
	if sys.IsErrno(err, unix.ENOENT, unix.ELOOP, unix.EISDIR, unix.ENXIO) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	if found, err = isJournalOf(f, planSum); found {
		return &journal{f}, true, nil
	}
	return nil, false, firstError(err, f.Close())
}

func isJournalOf(f *sys.File, planSum uint64) (bool, error) {
	s, err := f.Stat()
	if err != nil || !s.IsRegular() {
		return false, err
	}
	header := make([]byte, journalHeader)
	n, err := f.ReadAt(header, len(header), 0)
	return err == nil && n == len(header) && string(header) == string(headerOf(planSum)), err
}

// newJournal creates the journal of a plan.
func newJournal(state *sys.File, planSum uint64) (*journal, error) {
	f, err := state.OpenAt(journalName, createNew, 0o600)
	if err != nil {
		return nil, err
	}
	if err := f.WriteAt(headerOf(planSum), 0); err != nil {
		_ = f.Close() // the write has failed already
		return nil, err
	}
	return &journal{f}, nil
}

func headerOf(planSum uint64) []byte {
	return binary.LittleEndian.AppendUint64([]byte(journalMagic), planSum)
}

func slotOffset(slot int64) int64 { return journalHeader + 8*slot }

// putSum writes the sum of one slot.
func (j *journal) putSum(slot int64, sum uint64) error {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], sum)
	return j.file.WriteAt(b[:], slotOffset(slot))
}

// replaceSum writes the sum of a slot whose block did not read back as expected, and reads
// it again. The block may be good and the journal wrong, and the manifest will be made
// from the journal.
func (j *journal) replaceSum(slot int64, sum uint64) error {
	if err := j.putSum(slot, sum); err != nil {
		return err
	}
	got, err := j.sumAt(slot)
	if err != nil || got == sum {
		return err
	}
	return &fs.PathError{Op: "read", Path: j.file.Path(), Err: fmt.Errorf("sum %d is %016x, but %016x was written", slot, got, sum)}
}

// sumAt returns the sum of one slot, or 0 if it has none.
func (j *journal) sumAt(slot int64) (sum uint64, err error) {
	sums, err := j.readSums(slot, 1)
	if len(sums) == 0 {
		return 0, err
	}
	return sums[0], err
}

// requireSums returns the sums of n slots that have been written. If the journal ends
// before the last of them, that is an error: sums of 0 in a manifest would make good data
// look damaged in every later verification.
func (j *journal) requireSums(slot, n int64) ([]uint64, error) {
	sums, err := j.readSums(slot, n)
	if found := int64(len(sums)); err == nil && found < n {
		err = &fs.PathError{Op: "read", Path: j.file.Path(), Err: fmt.Errorf("it ends before sum %d, which was written", slot+found)}
	}
	return sums, err
}

// readSums returns the sums of n slots, or fewer if the journal ends before.
func (j *journal) readSums(slot, n int64) (sums []uint64, err error) {
	buf := make([]byte, 8*n)
	got, err := j.file.ReadAt(buf, len(buf), slotOffset(slot))
	for i := 0; i+8 <= got; i += 8 {
		sums = append(sums, binary.LittleEndian.Uint64(buf[i:]))
	}
	return sums, err
}

// sumWriter writes sums to the journal, several with one call if their slots follow each
// other. Sums that are not flushed are lost with the process, and their files, at most
// slotsPerWrite small ones, are copied again.
type sumWriter struct {
	journal *journal
	first   int64
	sums    []byte
}

const slotsPerWrite = 64

func (w *sumWriter) addSum(slot int64, sum uint64) error {
	if n := int64(len(w.sums)) / 8; slot != w.first+n || n == slotsPerWrite {
		if err := w.flush(); err != nil {
			return err
		}
		w.first = slot
	}
	w.sums = binary.LittleEndian.AppendUint64(w.sums, sum)
	return nil
}

func (w *sumWriter) flush() error {
	if len(w.sums) == 0 {
		return nil
	}
	err := w.journal.file.WriteAt(w.sums, slotOffset(w.first))
	w.sums = w.sums[:0]
	return err
}

// sumReader reads sums in large pieces. It is fast if the slots are read mostly in their
// order. It is for one goroutine, and for sums that do not change meanwhile.
type sumReader struct {
	journal *journal
	first   int64
	sums    []uint64
}

// slotsPerRead is the size of a piece: a batch of files.
const slotsPerRead = batchEntries

// sumAt returns the sum of a slot. If the journal ends before it, that is an error.
func (r *sumReader) sumAt(slot int64) (uint64, error) {
	if i := slot - r.first; i < 0 || i >= int64(len(r.sums)) {
		if err := r.readFrom(slot); err != nil {
			return 0, err
		}
	}
	return r.sums[slot-r.first], nil
}

func (r *sumReader) readFrom(slot int64) (err error) {
	r.first = slot
	if r.sums, err = r.journal.readSums(slot, slotsPerRead); err == nil && len(r.sums) == 0 {
		r.sums, err = r.journal.requireSums(slot, 1) // for its error
	}
	return err
}

// sumScan finds the sums of a journal, in one pass from its start.
type sumScan struct {
	ctx     context.Context
	journal *journal
	hole    int64 // the slots from this one to first have no sums
	first   int64 // the slot of sums[0]
	sums    []uint64
	end     int64 // the slots from this one on have no sums
}

// slotsPerScan is the number of slots that a scan reads at once: 64 KiB.
const slotsPerScan = 8 << 10

func (j *journal) newScan(ctx context.Context) *sumScan {
	return &sumScan{ctx: ctx, journal: j, end: math.MaxInt64}
}

// nextSum returns the first slot in [slot, end) that has a sum, or end.
func (s *sumScan) nextSum(slot, end int64) (int64, error) {
	for limit := min(end, s.end); slot < limit; limit = min(end, s.end) {
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

// load reads the first slots at or after slot that are not in a hole of the file: a
// journal may be one hole of any length.
func (s *sumScan) load(slot int64) error {
	if s.ctx.Err() != nil {
		return context.Cause(s.ctx)
	}
	data, _, found, err := s.journal.file.NextData(slotOffset(slot))
	if err != nil {
		return err
	}
	if s.sums = nil; found {
		s.hole, s.first = slot, max(slot, (data-journalHeader)/8)
		s.sums, err = s.journal.readSums(s.first, slotsPerScan)
	}
	if len(s.sums) == 0 {
		s.end = slot
	}
	return err
}

// SyncJournal makes the journal durable. An error of writing it back must be known before
// the manifest is made from it.
func (s *Stage) SyncJournal() error { return s.journal.file.SyncData() }

// FileSum returns the XXH64 of a whole regular file of the plan, after the copy. It is fast if
// the files are asked for in the order of the plan. Only one goroutine may call it. If the
// journal has lost the sum, that is an error.
func (s *Stage) FileSum(it *PlanEntry) (uint64, error) {
	if s.sums.journal == nil {
		s.sums.journal = s.journal
	}
	return s.sums.sumAt(it.slot + slotCount(it.Size) - 1)
}

// BlockSums returns the XXH64 of n blocks of a file, starting with block first, after the
// copy. If the journal has lost one of the sums, that is an error.
func (s *Stage) BlockSums(it *PlanEntry, first, n int64) ([]uint64, error) {
	return s.journal.requireSums(it.slot+first, n)
}
