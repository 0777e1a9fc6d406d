package shardtossd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"shard_to_ssd/internal/pool"
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/verify"
)

// Verify reads the shard back from the SSD and compares everything with its
// manifest. It takes no lock: a shard that is removed or replaced meanwhile is an
// error that says so, not damage. With damage, Result.Differences names it, at most
// so much of it as fits into memory, and the error is ErrDamaged.
func Verify(ctx context.Context, o Options) (*Result, error) {
	op, err := begin(o, opVerify)
	if err == nil {
		err = op.verify(ctx)
	}
	return op.end(err)
}

func (op *operation) verify(ctx context.Context) error {
	pub, err := op.published()
	if err != nil {
		return err
	}
	if pub == nil {
		return fmt.Errorf("shard %s is not in %s", op.name, op.SSDDir)
	}
	state, m, err := op.manifestOf(pub)
	if err != nil {
		return err
	}
	defer state.close() //nolint:errcheck // opened for reading
	defer m.Close()     //nolint:errcheck // opened for reading
	medium, err := op.compare(ctx, m)
	if err != nil {
		return op.unlessGone(m, pub, err)
	}
	op.result.ReadBack = string(medium.Mode())
	if n := op.result.DifferenceCount; n > 0 {
		return op.unlessGone(m, pub, &kindError{ErrDamaged,
			fmt.Errorf("shard %s is damaged: %d differences from what was published at %s", op.name, n, m.Time.Local().Format(time.DateTime))})
	}
	if err := op.unlessGone(m, pub, nil); err != nil {
		return err
	}
	op.result.Outcome = Verified
	if err := state.recordVerified(medium.Mode()); err != nil {
		op.warn("when shard %s was verified could not be recorded: %v", op.name, err)
	}
	op.info("Shard %s is as it was published: %d files, %d bytes (%s) read back: %s", op.name, m.Files, m.Bytes, FormatSize(m.Bytes), op.result.ReadBack)
	return nil
}

// manifestOf opens the manifest that is bound to what is published.
func (op *operation) manifestOf(pub *sys.Stat) (*stateDir, *verify.Manifest, error) {
	state, err := openState(op.ssd, op.name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, op.errNoManifest()
	}
	if err != nil {
		return nil, nil, err
	}
	m, err := verify.OpenManifest(state.File)
	if err == nil {
		err = op.checkBound(m, pub)
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = op.errNoManifest()
	}
	if err != nil {
		state.close() //nolint:errcheck // opened for reading
		return nil, nil, err
	}
	return state, m, nil
}

func (op *operation) errNoManifest() error {
	return fmt.Errorf("shard %s in %s has no manifest: this tool did not publish it, and cannot tell what it should be", op.name, op.SSDDir)
}

func (op *operation) checkBound(m *verify.Manifest, pub *sys.Stat) error {
	var err error
	if !m.BoundTo(pub) || m.Shard != op.name {
		err = op.errNoManifest()
	} else if err = m.Check(); err != nil {
		err = fmt.Errorf("the manifest of shard %s is damaged, which says nothing of the shard: %w", op.name, err)
	}
	if err != nil {
		m.Close() //nolint:errcheck // opened for reading
	}
	return err
}

func (op *operation) compare(ctx context.Context, m *verify.Manifest) (*verify.Medium, error) {
	op.Observer.Planned(m.Files, m.Bytes)
	op.result.Files, op.result.Bytes, op.result.Jobs = m.Files, m.Bytes, op.Jobs
	medium := &verify.Medium{Pace: pool.Pace(ctx, op.Bandwidth)}
	workers, err := pool.New(op.Jobs)
	if err != nil {
		return medium, err
	}
	defer workers.Close() //nolint:errcheck // only memory
	shard := verify.Shard{In: op.ssd, Name: op.name}
	return medium, verify.Contents(ctx, m, shard, workers, medium, op.Observer, op.differs)
}

// How many differences are kept, and how many bytes of them: a shard may be all
// wrong, and a path 256 KiB long.
const (
	maxDifferences     = 10_000
	maxDifferenceBytes = 16 << 20
)

// differs counts a difference, and keeps it if it is one of the first.
func (op *operation) differs(d verify.Difference) {
	op.result.DifferenceCount++
	op.differenceBytes += len(d.Path) + len(d.Detail) + 16*len(d.Ranges)
	if op.result.DifferenceCount <= maxDifferences && op.differenceBytes <= maxDifferenceBytes {
		op.result.Differences = append(op.result.Differences, d)
	}
}

// unlessGone replaces an error by a plainer one if the shard is not any more the
// one that was being verified.
func (op *operation) unlessGone(m *verify.Manifest, pub *sys.Stat, err error) error {
	now, statErr := op.published()
	if statErr != nil {
		return errors.Join(err, statErr)
	}
	if now != nil && m.BoundTo(now) {
		return err
	}
	op.result.Differences, op.result.DifferenceCount = nil, 0
	return fmt.Errorf("shard %s was removed or replaced while it was verified: nothing is known of the one that is there now", op.name)
}

// recordVerified writes down that the shard was found as published, and how it
// was read. A state dir that is being deleted takes no record, and needs none.
func (s *stateDir) recordVerified(mode verify.ReadMode) error {
	err := s.write(verifiedName, verifiedRecord(time.Now(), mode))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func verifiedRecord(when time.Time, mode verify.ReadMode) string {
	return fmt.Sprintf("%s %s\n", when.UTC().Format(time.RFC3339), mode)
}

// parseVerified is not ok for anything but what verifiedRecord writes.
func parseVerified(record string) (when time.Time, mode verify.ReadMode, ok bool) {
	stamp, word, _ := strings.Cut(strings.TrimSuffix(record, "\n"), " ")
	when, err := time.Parse(time.RFC3339, stamp)
	switch mode = verify.ReadMode(word); {
	case err != nil:
	case mode == verify.FromDevice, mode == verify.Dropped, mode == verify.FromCache, mode == "": // of a shard without a byte
		return when, mode, true
	}
	return time.Time{}, "", false
}
