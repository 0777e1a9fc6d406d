package shardtossd

import (
	"context"
	"fmt"

	"shard_to_ssd/copier"
	"shard_to_ssd/internal/errs"
	"shard_to_ssd/internal/humanize"
	"shard_to_ssd/internal/pool"
	"shard_to_ssd/internal/statedir"
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/verify"
)

// Adopt gives a manifest to a shard that the older script published. It reads
// everything on the SSD, from the device, and everything in the source: both must have
// the same names, types, link targets and bytes. A difference in metadata only (the
// older script keeps no owners, and makes a file of each name of a hard link) is
// reported, and the manifest records the SSD. Any other difference is ErrDamaged, and
// there is no manifest.
//
//	lock → bound manifest? ─yes─► done
//	           └no─► walk the shard → checksums → compare with the source → sync → manifest → unlock
//
// Errors: ErrUsage, ErrLockTimeout, ErrDamaged, ErrNotOnSSD, ErrGone, ErrNoSpace, the
// cause of ctx, or any other failure.
func Adopt(ctx context.Context, o AdoptOptions) (*AdoptResult, error) {
	a := &adopting{comparing: comparing{operation: newOperation(o.Host, o.Work)}, options: o}
	a.lockTimeout = o.LockTimeout
	err := a.perform(func() error { return a.beginShard(o.Shard) }, func() error { return a.run(ctx) })
	return &AdoptResult{a.summary, a.result()}, err
}

// adopting is one call of Adopt.
type adopting struct {
	comparing
	options AdoptOptions
}

func (a *adopting) run(ctx context.Context) error {
	if err := a.lockUserFileIfExists(ctx); err != nil {
		return err
	}
	pub, err := a.statAdoptable()
	if err != nil {
		return err
	}
	before, err := a.openState()
	if err != nil {
		return err
	}
	defer before.Close()
	m, err := a.openManifest(before, pub)
	if err != nil {
		return err
	}
	if m != nil {
		a.totals.Files, a.totals.Bytes, a.summary.Outcome = m.Files, m.Bytes, AlreadyAdopted
		a.info("Shard %s has a manifest already: nothing to adopt", a.shard.Name)
		return m.Close()
	}
	state, err := a.lockStateWithRoom(ctx)
	if err != nil {
		return err
	}
	defer state.Close()
	a.checker = verify.NewChecker(ctx, a.Jobs, a.Bandwidth)
	defer a.checker.Close()
	err = a.makeManifest(ctx, state, pub)
	return errs.Join(err, a.clearAdoption(context.WithoutCancel(ctx), state))
}

// statAdoptable returns what is published, if it can be a shard.
func (a *adopting) statAdoptable() (*sys.Stat, error) {
	pub, err := a.shard.Stat()
	switch {
	case err != nil:
		return nil, err
	case pub == nil:
		return nil, errs.WithKind(fmt.Errorf("shard %s is not in %s", a.shard.Name, a.SSDDir), ErrNotOnSSD)
	case !pub.IsDir() && !pub.IsRegular():
		return nil, fmt.Errorf("%s is neither a directory nor a regular file", a.shard)
	}
	return pub, a.shard.CheckMovable(pub)
}

// clearAdoption deletes what only the adoption needed, and a state dir that was made
// for it and has nothing else.
func (a *adopting) clearAdoption(ctx context.Context, state *statedir.Dir) error {
	if err := state.Clear(ctx, statedir.Recording, a.Jobs); err != nil {
		return err
	}
	empty, err := state.HoldsNothing()
	if empty && err == nil {
		err = state.Remove(ctx, a.Jobs)
	}
	return err
}

// makeManifest makes the manifest of what is published.
func (a *adopting) makeManifest(ctx context.Context, state *statedir.Dir, pub *sys.Stat) error {
	source, err := a.openSourceTree(a.options.Shard)
	if err != nil {
		return fmt.Errorf("adopt shard %s: %w; there is nothing to compare it with", a.shard.Name, err)
	}
	defer source.close()
	from, err := source.tree.Parent.StatAt(source.tree.Name)
	if err != nil {
		return err
	}
	if from.IsDir() != pub.IsDir() {
		a.found.Add(verify.Difference{Path: ".", Kind: verify.Type, Detail: "not what the source is"})
		return a.errUnequal(source.path)
	}
	walked, err := copier.OpenSourceAt(a.shard.SSD, a.shard.Name)
	if err != nil {
		return err
	}
	defer walked.Close()
	var plan *copier.Plan
	err = a.withRoom(ctx, func() (err error) {
		plan, err = copier.MakePlan(ctx, walked, state.File)
		return err
	})
	if err != nil {
		return err
	}
	defer plan.Close()
	a.totals.Files, a.totals.Bytes, a.summary.Jobs = plan.Files, plan.Bytes, a.Jobs
	a.Observer.Planned(2*plan.Files, 2*plan.Bytes) // on the SSD and in the source
	header := a.manifestHeader(pub, &from, source.path, plan)
	header.Tool = a.options.Version
	return a.writeProven(ctx, header, plan, state, source)
}

// writeProven writes the manifest, proves it for both sides, and commits it.
func (a *adopting) writeProven(ctx context.Context, header *verify.Header, plan *copier.Plan, state *statedir.Dir, source *sourceTree) error {
	device := &verify.DeviceReader{RateLimit: pool.NewRateLimiter(ctx, a.Bandwidth)}
	sums, err := plan.SumSource(ctx, copier.Options{Jobs: a.Jobs, ReadBack: readBack{device}, Observer: a.Observer})
	if err != nil {
		return err
	}
	defer sums.Close()
	a.totals.ReadBack = device.WeakestMode()
	w, err := verify.NewManifestWriter(state.File, header)
	if err != nil {
		return err
	}
	defer func() { _ = w.Close() }() // again, unless an error came first
	if err := a.shard.WriteEntries(ctx, w, plan, sums); err != nil {
		return err
	}
	if err := a.proveBothSides(ctx, plan, state, source); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	// The older script may never have synced what it wrote; neither was the manifest.
	if err := a.shard.SSD.SyncFS(); err != nil {
		return err
	}
	if err := a.checkStillThere(header); err != nil {
		return err
	}
	if err := w.Commit(); err != nil {
		return err
	}
	if err := state.SyncAll(); err != nil {
		return err
	}
	a.summary.Outcome = Adopted
	a.info("Adopted shard %s: %s, %s (%s) are those of the source %q, read back: %s", a.shard.Name,
		humanize.Count(header.Files, "file"), humanize.Count(header.Bytes, "byte"), humanize.Size(header.Bytes), header.Source, a.totals.ReadBack)
	return nil
}

func (a *adopting) checkStillThere(header *verify.Header) error {
	pub, err := a.shard.Stat()
	if err == nil && (pub == nil || verify.RootIdentityOf(pub) != header.Root) {
		err = a.goneBeforeChange()
	}
	return err
}

// proveBothSides compares the manifest with names and metadata on the SSD, which may
// have changed while they were read, and with everything in the source.
func (a *adopting) proveBothSides(ctx context.Context, plan *copier.Plan, state *statedir.Dir, source *sourceTree) error {
	m, err := verify.OpenUncommittedManifest(state.File)
	if err != nil {
		return err
	}
	defer m.Close()
	if err := m.Check(ctx); err != nil {
		return err
	}
	var changed, harmless, unread verify.FirstDifference
	if err := verify.CompareTreeStrictly(ctx, m, a.shard.Tree(), changed.Add); err != nil {
		return err
	}
	if changed.Count > 0 {
		return fmt.Errorf("shard %s changed while it was read, in %v", a.shard.Name, &changed)
	}
	// The names of one file in the source may be a file each on the SSD. If the SSD has
	// hard links, they must be those of the source: only one name of each was read.
	report := verify.IgnoreOwners(func(d verify.Difference) {
		switch d = verify.SeenFromSSD(d); {
		case d.Kind == verify.Unreadable:
			unread.Add(d)
		case verify.IsMetadata(d.Kind), d.Kind == verify.HardLink && plan.HardLinks == 0:
			harmless.Add(d)
		default:
			a.found.Add(d)
		}
	})
	_, err = a.checker.Compare(ctx, verify.Comparison{Manifest: m, Shard: source.tree, Progress: a.Observer, Report: report})
	switch {
	case err != nil:
		return fmt.Errorf("compare with the source %q: %w", source.path, err)
	case a.found.Count > 0:
		return a.errUnequal(source.path)
	case unread.Count > 0:
		return fmt.Errorf("shard %s cannot be compared with the whole source %q: %v; it has no manifest", a.shard.Name, source.path, &unread)
	}
	if harmless.Count > 0 {
		a.warn("the metadata of shard %s on ssd differs from the source in %v; the manifest records the SSD", a.shard.Name, &harmless)
	}
	return nil
}

func (a *adopting) errUnequal(source string) error {
	return errs.WithKind(fmt.Errorf("shard %s on ssd is not equal to the source %q: %s; it has no manifest", a.shard.Name, source,
		humanize.Count(a.found.Count, "difference")), ErrDamaged)
}
