package shardtossd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"shard_to_ssd/copier"
	"shard_to_ssd/internal/errs"
	"shard_to_ssd/internal/humanize"
	"shard_to_ssd/internal/pool"
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/locking"
	"shard_to_ssd/verify"
)

// Adopt gives a shard that this tool did not publish, but the older script, the
// manifest that it would have: of what is on the SSD, read from the medium, after the
// source was found to have the same names, types, link targets and bytes, all of them
// read. What differs in metadata only (the older script keeps no owners, and makes a
// file of each name of a hard link) is told, and recorded as it is on the SSD. Any
// other difference is ErrDamaged, and there is no manifest then.
//
//	lock → bound manifest? ─yes─► done
//	           └no─► walk the shard → sum it → compare with the source → sync → manifest → unlock
func Adopt(ctx context.Context, o Options) (*Result, error) {
	op, err := begin(o, opAdopt)
	if err == nil {
		err = op.adoptForeign(ctx)
	}
	return op.end(err)
}

func (op *operation) adoptForeign(ctx context.Context) error {
	// Without a user file, which must not be made for this, the lock of the state dir
	// keeps others of this tool away.
	if err := op.acquire(ctx, false); err != nil && !errors.Is(err, locking.ErrMissing) {
		return err
	}
	pub, err := op.adoptable()
	if err != nil {
		return err
	}
	before, err := op.openStateIfThere()
	if err != nil {
		return err
	}
	if before != nil {
		defer before.close() //nolint:errcheck // opened for reading
	}
	m, err := op.boundManifest(before, pub)
	if err != nil {
		return err
	}
	if m != nil {
		op.result.Files, op.result.Bytes, op.result.Outcome = m.Files, m.Bytes, AlreadyAdopted
		op.info("Shard %s has a manifest already: nothing to adopt", op.name)
		return m.Close()
	}
	var state *stateDir
	err = op.withRoom(ctx, func() (err error) {
		state, err = op.lockState(ctx)
		return err
	})
	if err != nil {
		return err
	}
	defer state.close() //nolint:errcheck // gives the flock back
	err = op.record(ctx, state, pub)
	return errs.Join(err, op.clearAdoption(context.WithoutCancel(ctx), state))
}

// adoptable is what is published, if it can be a shard.
func (op *operation) adoptable() (*sys.Stat, error) {
	pub, err := op.published()
	switch {
	case err != nil:
		return nil, err
	case pub == nil:
		return nil, fmt.Errorf("shard %s is not in %s", op.name, op.SSDDir)
	case !pub.IsDir() && !pub.IsRegular():
		return nil, fmt.Errorf("%s/%s is neither a directory nor a regular file", op.SSDDir, op.name)
	}
	return pub, op.refuseMount(pub)
}

// clearAdoption deletes what only the adoption needed. A state dir that was made for
// it goes if it has nothing else.
func (op *operation) clearAdoption(ctx context.Context, state *stateDir) error {
	err := errs.Join(copier.DropJournal(ctx, state.File), copier.DropPlan(ctx, state.File), verify.DropUncommitted(state.File))
	if err != nil {
		return err
	}
	names, err := state.Names(make([]byte, 4096))
	if err == nil && len(names) == 1 && names[0] == lockDirName {
		err = state.remove(ctx, op.Jobs)
	}
	return err
}

// record makes the manifest of what is published.
func (op *operation) record(ctx context.Context, state *stateDir, pub *sys.Stat) error {
	source, path, err := op.sourceOf(nil)
	if err != nil {
		return fmt.Errorf("adopt shard %s: %w; there is nothing to compare it with", op.name, err)
	}
	defer source.In.Close() //nolint:errcheck // opened for reading
	from, err := source.In.StatAt(source.Name)
	if err != nil {
		return err
	}
	if from.IsDir() != pub.IsDir() {
		op.differs(verify.Difference{Path: ".", Kind: verify.Type, Detail: "not what the source is"})
		return op.errUnequal(path)
	}
	published, err := copier.SourceAt(op.ssd, op.name)
	if err != nil {
		return err
	}
	defer published.Close() //nolint:errcheck // opened for reading
	var plan *copier.Plan
	err = op.withRoom(ctx, func() (err error) {
		plan, err = copier.MakePlan(ctx, published, state.File)
		return err
	})
	if err != nil {
		return err
	}
	defer plan.Close() //nolint:errcheck // not needed after
	op.result.Files, op.result.Bytes, op.result.Jobs = plan.Files, plan.Bytes, op.Jobs
	op.Observer.Planned(2*plan.Files, 2*plan.Bytes) // here and in the source
	h := &verify.Header{
		Tool: op.Version, Shard: op.name, Root: verify.RootOf(pub),
		Source: path, Origin: verify.Identity{Dev: from.Dev, Ino: from.Ino, Mtime: from.Mtime},
		LockDir: op.lockDir, Time: time.Now(), Files: plan.Files, Entries: plan.Entries(), Bytes: plan.Bytes,
	}
	return op.recordAs(ctx, h, plan, state, source)
}

// recordAs writes the manifest, proves it of both sides, and commits it.
func (op *operation) recordAs(ctx context.Context, h *verify.Header, plan *copier.Plan, state *stateDir, source verify.Shard) error {
	medium := &verify.Medium{Pace: pool.NewPace(ctx, op.Bandwidth)}
	sums, err := plan.Sum(ctx, copier.Options{Jobs: op.Jobs, ReadBack: readBack{medium}, Observer: op.Observer})
	if err != nil {
		return err
	}
	defer sums.Close() //nolint:errcheck // not needed after
	op.result.ReadBack = string(medium.Mode())
	w, err := verify.NewWriter(state.File, h)
	if err != nil {
		return err
	}
	defer w.Close() //nolint:errcheck // closed below where it counts
	if err := op.writeEntries(ctx, w, plan, sums); err != nil {
		return err
	}
	if err := op.proveAdopted(ctx, h, plan, state, source); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	// What the older script wrote may never have been synced, and so the manifest.
	if err := op.ssd.SyncFS(); err != nil {
		return err
	}
	if err := op.stillThere(h); err != nil {
		return err
	}
	if err := w.Commit(); err != nil {
		return err
	}
	if err := errs.Join(state.Sync(), state.root.Sync()); err != nil {
		return err
	}
	op.result.Outcome = Adopted
	op.info("Adopted shard %s: %d files, %d bytes (%s) are those of the source %q, read back: %s", op.name,
		h.Files, h.Bytes, humanize.Size(h.Bytes), h.Source, op.result.ReadBack)
	return nil
}

func (op *operation) stillThere(h *verify.Header) error {
	pub, err := op.published()
	if err == nil && (pub == nil || verify.RootOf(pub) != h.Root) {
		err = op.errGoneMeanwhile()
	}
	return err
}

// proveAdopted holds the manifest against the names and metadata on the SSD, which may
// have changed while it was read, and against all of the source.
func (op *operation) proveAdopted(ctx context.Context, h *verify.Header, plan *copier.Plan, state *stateDir, source verify.Shard) error {
	m, err := verify.OpenNewManifest(state.File)
	if err != nil {
		return err
	}
	defer m.Close() //nolint:errcheck // opened for reading
	if err := m.Check(); err != nil {
		return err
	}
	var changed, other, unread firstOf
	err = verify.ProveTree(ctx, m, verify.Shard{In: op.ssd, Name: op.name}, changed.add)
	if err == nil && changed.count > 0 {
		err = fmt.Errorf("shard %s changed while it was read, in %v", op.name, &changed)
	}
	if err != nil {
		return err
	}
	_, err = op.contentsOf(ctx, m, source, op.Observer, ofSource(func(d verify.Difference) {
		switch d = seenFromSSD(d); {
		case d.Kind == verify.Unreadable:
			unread.add(d)
		case harmless(d.Kind, plan.HardLinks == 0):
			other.add(d)
		default:
			op.differs(d)
		}
	}))
	switch {
	case err != nil:
		return fmt.Errorf("compare with the source %q: %w", h.Source, err)
	case op.result.DifferenceCount > 0:
		return op.errUnequal(h.Source)
	case unread.count > 0:
		return fmt.Errorf("shard %s cannot be compared with all of the source %q: %v; it has no manifest", op.name, h.Source, &unread)
	}
	if other.count > 0 {
		op.warn("the metadata of shard %s on ssd is not that of the source in %v; the manifest says what is on the SSD", op.name, &other)
	}
	return nil
}

// seenFromSSD turns a difference of the source from the SSD into one of the SSD from
// the source, which is what it should be.
func seenFromSSD(d verify.Difference) verify.Difference {
	switch d.Kind {
	case verify.Missing:
		d.Kind = verify.Extra
	case verify.Extra:
		d.Kind = verify.Missing
	}
	if d.Kind == verify.HardLink {
		d.Detail = "in the source " + d.Detail
	}
	if source, found := strings.CutPrefix(d.Detail, "found "); found {
		d.Detail = "the source has " + source
		if i := strings.LastIndex(d.Detail, ", published "); i >= 0 {
			d.Detail = d.Detail[:i] + ", the SSD " + strings.TrimPrefix(d.Detail[i+len(", published "):], "as ")
		}
	}
	return d
}

// harmless differences are those of metadata. The names of one file in the source may
// be a file each on the SSD; where the SSD has hard links, they must be the source's,
// of which only the first name is read.
func harmless(kind verify.Kind, unlinked bool) bool {
	switch kind {
	case verify.Mode, verify.Owner, verify.Mtime, verify.Xattrs:
		return true
	case verify.HardLink:
		return unlinked
	}
	return false
}

func (op *operation) errUnequal(path string) error {
	return &kindError{ErrDamaged, fmt.Errorf("shard %s on ssd is not what the source %q is: %d differences; it has no manifest", op.name, path, op.result.DifferenceCount)}
}
