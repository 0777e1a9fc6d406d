package shardtossd

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

// finding is what a verification found, and of what: a record that was written
// beside a copy made later says nothing of it.
type finding struct {
	when        time.Time
	mode        verify.ReadMode // how it was read; "" of a shard without a byte
	differences int64
	root        verify.Root // of the shard
	published   time.Time
}

// findings are the last pass and the last damage found in what is published, nil
// where there was none. They are two files, so that neither of two verifications
// that end at once can undo what the other has found.
type findings struct{ passed, damaged *finding }

// since is when the shard was last seen whole, zero if never or if damage was found
// after it.
func (f *findings) since() time.Time {
	if f.passed == nil || (f.damaged != nil && !f.damaged.when.Before(f.passed.when)) {
		return time.Time{}
	}
	return f.passed.when
}

// findings reads what verifications of the shard that m is bound to have found.
func (s *stateDir) findings(m *verify.Manifest) (*findings, error) {
	passed, err := s.finding(verifiedName, m)
	damaged, err2 := s.finding(damagedName, m)
	if err = errs.Join(err, err2); err != nil {
		return &findings{damaged: damaged}, err // as if it had never been verified
	}
	return &findings{passed, damaged}, nil
}

// finding is the record under a name, nil if there is none of this very shard.
func (s *stateDir) finding(name string, m *verify.Manifest) (*finding, error) {
	text, err := s.read(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	f, ok := parseFinding(text)
	if !ok || (f.differences > 0) != (name == damagedName) {
		return nil, fmt.Errorf("%s/%s is not what this program writes: it counts for nothing", s.Path(), name)
	}
	if f.root != m.Root || !f.published.Equal(m.Time) {
		return nil, nil
	}
	return f, nil
}

// record writes a finding of the shard that m is bound to. A pass counts from the
// time when reading began, since damage that another has found meanwhile may have
// come after that; damage counts for more than any pass before it, even if the clock
// was set back. A state dir that is being deleted takes no record, and needs none.
func (s *stateDir) record(m *verify.Manifest, f finding) error {
	f.root, f.published = m.Root, m.Time
	name := verifiedName
	if f.differences > 0 {
		name = damagedName
		if before, err := s.finding(verifiedName, m); err == nil && before != nil && f.when.Before(before.when) {
			f.when = before.when
		}
	}
	err := s.writeVia(fmt.Sprintf("%s.new.%d", name, os.Getpid()), name, f.String())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// noBytes stands for the mode in which nothing was read.
const noBytes = "-"

func (f *finding) String() string {
	mode := f.mode
	if mode == "" {
		mode = noBytes
	}
	return fmt.Sprintf("%s %s %d %d %d.%09d %s\n", f.when.UTC().Format(time.RFC3339Nano), mode, f.differences,
		f.root.Ino, f.root.Btime.Sec, f.root.Btime.Nsec, f.published.UTC().Format(time.RFC3339Nano))
}

// parseFinding is not ok for anything but what String writes.
func parseFinding(text string) (f *finding, ok bool) {
	var when, mode, published string
	var btime sys.Time
	f = &finding{}
	if _, err := fmt.Sscanf(text, "%s %s %d %d %d.%d %s\n", &when, &mode, &f.differences, &f.root.Ino, &btime.Sec, &btime.Nsec, &published); err != nil {
		return nil, false
	}
	var err, err2 error
	f.when, err = time.Parse(time.RFC3339Nano, when)
	f.published, err2 = time.Parse(time.RFC3339Nano, published)
	f.mode, f.root.Btime = verify.ReadMode(strings.TrimPrefix(mode, noBytes)), btime
	if err != nil || err2 != nil || (f.mode != "" && verify.Weaker(f.mode, "") != f.mode) || f.String() != text {
		return nil, false
	}
	return f, true
}
