package statedir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"shard_to_ssd/internal/errs"
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/verify"
)

// The names of the verify records. They are two files, so that of two
// verifications that end at once neither undoes the record of the other.
const (
	verifiedName = "verified" // when and how --verify last found no damage
	damagedName  = "damaged"  // when and how it last found some
)

// VerifyRecord is the result of one verification of one copy. It says nothing about a
// copy that was made later.
type VerifyRecord struct {
	Time        time.Time
	Mode        verify.ReadMode // how the shard was read; "" for a shard without a byte
	Differences int64           // 0: no damage

	root      verify.RootIdentity // of the shard
	published time.Time
}

// VerifyRecords are the last pass and the last damage of the published shard. A nil
// record: that never happened.
type VerifyRecords struct{ Passed, Damaged *VerifyRecord }

// LastGood returns the time when the shard was last found undamaged, or the zero
// time if that never happened or damage was found since.
func (r *VerifyRecords) LastGood() time.Time {
	if r.Passed == nil || (r.Damaged != nil && !r.Damaged.Time.Before(r.Passed.Time)) {
		return time.Time{}
	}
	return r.Passed.Time
}

// IsRecent reports whether a time is less than maxAge ago. A time in the future
// comes from a clock that was wrong, and is not.
func IsRecent(t time.Time, maxAge time.Duration) bool {
	age := time.Since(t)
	return !t.IsZero() && age >= 0 && age < maxAge
}

// VerifyRecords reads the verify records of the shard that m is bound to. With an
// error they say that the shard was never verified.
func (d *Dir) VerifyRecords(m *verify.Manifest) (*VerifyRecords, error) {
	passed, passedErr := d.verifyRecord(verifiedName, m)
	damaged, damagedErr := d.verifyRecord(damagedName, m)
	if err := errs.Join(passedErr, damagedErr); err != nil {
		return &VerifyRecords{Damaged: damaged}, err
	}
	return &VerifyRecords{passed, damaged}, nil
}

// verifyRecord reads the record of that name, nil unless it is about this copy.
func (d *Dir) verifyRecord(name string, m *verify.Manifest) (*VerifyRecord, error) {
	text, err := d.readRecord(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	r, ok := parseVerifyRecord(text)
	if !ok || (r.Differences > 0) != (name == damagedName) {
		return nil, fmt.Errorf("ignoring malformed record %s/%s", d.Path(), name)
	}
	if r.root != m.Root || !r.published.Equal(m.Time) {
		return nil, nil
	}
	return r, nil
}

// RecordVerify writes the result of a verification of the shard that m is bound to.
// The time of a pass is when reading began, since another verification may have
// found damage after that. Damage counts for more than any pass before it, even if
// the clock was set back. A state dir that is being deleted takes no record, and
// needs none.
func (d *Dir) RecordVerify(m *verify.Manifest, r VerifyRecord) error {
	r.root, r.published = m.Root, m.Time
	name := verifiedName
	if r.Differences > 0 {
		name = damagedName
		if before, err := d.verifyRecord(verifiedName, m); err == nil && before != nil && r.Time.Before(before.Time) {
			r.Time = before.Time
		}
	}
	err := d.writeRecord(fmt.Sprintf("%s.new.%d", name, os.Getpid()), name, r.encode())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// ForgetPass deletes the record of the last pass, so that no verification is
// skipped because of it.
func (d *Dir) ForgetPass() error { return d.UnlinkIfExists(verifiedName) }

// noBytes stands for the mode when nothing was read.
const noBytes = "-"

func (r *VerifyRecord) encode() string {
	mode := r.Mode
	if mode == "" {
		mode = noBytes
	}
	return fmt.Sprintf("%s %s %d %d %d.%09d %s\n", r.Time.UTC().Format(time.RFC3339Nano), mode, r.Differences,
		r.root.Ino, r.root.Btime.Sec, r.root.Btime.Nsec, r.published.UTC().Format(time.RFC3339Nano))
}

// parseVerifyRecord reads the form that encode writes, and no other.
func parseVerifyRecord(text string) (r *VerifyRecord, ok bool) {
	var when, mode, published string
	var btime sys.Time
	r = &VerifyRecord{}
	if _, err := fmt.Sscanf(text, "%s %s %d %d %d.%d %s\n", &when, &mode, &r.Differences, &r.root.Ino, &btime.Sec, &btime.Nsec, &published); err != nil {
		return nil, false
	}
	var whenErr, publishedErr error
	r.Time, whenErr = time.Parse(time.RFC3339Nano, when)
	r.published, publishedErr = time.Parse(time.RFC3339Nano, published)
	r.Mode, r.root.Btime = verify.ReadMode(strings.TrimPrefix(mode, noBytes)), btime
	known := r.Mode == "" || verify.WeakerMode(r.Mode, "") == r.Mode
	if whenErr != nil || publishedErr != nil || !known || r.encode() != text {
		return nil, false
	}
	return r, true
}
