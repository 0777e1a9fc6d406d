package copier

import (
	"context"

	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/pool"
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/tree"
)

// reserveLargeFiles emits the tasks that create the large files and allocate their space,
// before anything is written: a full device is noticed now. Files that will be cloned need
// no space.
func (c *copyRun) reserveLargeFiles(ctx context.Context, emit func(pool.Task) error) error {
	if c.plan.segments == 0 || c.stage.clones {
		return nil
	}
	match := func(it *PlanEntry) bool {
		return it.Kind == tree.Regular && tree.BlockCount(it.Size) > 1 && !it.IsSparse()
	}
	return c.emitInStage(ctx, emit, match, func(ctx context.Context, dst *sys.File, it *PlanEntry) error {
		f, err := c.openLargeCopy(ctx, dst, it, 0)
		if err != nil {
			return err
		}
		_, err = f.Allocate(it.Size)
		return firstError(err, f.Close())
	})
}

// openFiles opens the file on both sides and for reading back.
func (f *largeFile) openFiles(ctx context.Context) error {
	c := f.run
	f.begun = c.timerStart()
	dirs, err := c.openDirPair(f.item.Path)
	if err != nil {
		return err
	}
	defer dirs.closeBoth()
	c.mu.Lock()
	c.large[f] = true
	c.mu.Unlock()
	directFlag := unix.O_DIRECT
	if c.Engine == Buffered {
		directFlag = 0
	}
	if f.in, err = c.openSourceFile(dirs.src, c.src.nameOf(f.item.Name), directFlag); err != nil {
		return sourceError(f.path, err)
	}
	if err := c.checkSource(&f.filePair, &f.item); err != nil {
		return err
	}
	if err := f.in.NoReadAhead(); err != nil {
		return err
	}
	if f.out, err = c.openLargeCopy(ctx, dirs.dst, &f.item, directFlag); err != nil {
		return err
	}
	f.out.RateLimiter, f.out.Request = c.RateLimit, c.MaxRequest
	if err := f.prepareCopy(); err != nil {
		return err
	}
	f.reader, err = c.ReadBack.Open(dirs.dst, c.stage.nameOf(f.item.Name), f.size)
	return err
}

// prepareCopy is copyRun.prepareCopy, unless the file has been cloned already.
func (f *largeFile) prepareCopy() error {
	f.run.mu.Lock()
	cloned := f.run.cloned[f.item.slot]
	f.run.mu.Unlock()
	if cloned {
		f.setEngine(Clone, cloneReason)
		return nil
	}
	return f.run.prepareCopy(&f.filePair)
}

// openLargeCopy opens a file of the stage, which has been reserved or is left by an
// interrupted copy, or creates it. An entry that cannot be opened, or is not a regular
// file, is replaced by a new file. Its blocks will read back wrong and be copied again.
// directFlag is unix.O_DIRECT or 0.
func (c *copyRun) openLargeCopy(ctx context.Context, dst *sys.File, it *PlanEntry, directFlag int) (*sys.File, error) {
	name, flags := c.stage.nameOf(it.Name), unix.O_RDWR|unix.O_CREAT|directFlag
	f, err := openFile(dst, name, flags, 0o600)
	if !c.stage.Resumed {
		return f, err
	}
	regular, err := isRegularFile(f, err)
	if err != nil {
		return nil, err
	}
	if regular {
		return f, nil
	}
	if err := tree.RemoveTree(ctx, dst, name, 1); err != nil {
		return nil, err
	}
	c.mu.Lock()
	delete(c.cloned, it.slot) // a clone was removed just now
	c.mu.Unlock()
	return openFile(dst, name, flags, 0o600)
}

// isRegularFile reports whether f, which was opened with the error openErr, is a regular
// file. If it is not, it is closed.
func isRegularFile(f *sys.File, openErr error) (bool, error) {
	if sys.IsErrno(openErr, unix.EACCES, unix.ELOOP, unix.EISDIR, unix.ENXIO) {
		return false, nil
	}
	if openErr != nil {
		return false, openErr
	}
	s, err := f.Stat()
	if err == nil && s.IsRegular() {
		return true, nil
	}
	return false, firstError(err, f.Close())
}

// finish is called when all blocks of the file have been read back.
func (f *largeFile) finish() error {
	c := f.run
	sum, err := f.reader.Close()
	if err != nil {
		return err
	}
	f.reader = nil
	if err := c.stage.journal.putSum(f.item.slot+tree.BlockCount(f.size), sum); err != nil {
		return err
	}
	if err := c.checkSource(&f.filePair, &f.item); err != nil {
		return err
	}
	if err := f.seal(); err != nil {
		return err
	}
	c.countFile(&f.filePair, f.size-f.kept.Load())
	c.fileDone(f.begun)
	return c.closeLargeFile(f)
}

func (f *largeFile) seal() error {
	c := f.run
	dirs, err := c.openDirPair(f.item.Path)
	if err != nil {
		return err
	}
	defer dirs.closeBoth()
	if err := c.setMetadata(dirs, f.out, &f.item, creationDefaults{}); err != nil {
		return err
	}
	if c.syncEach {
		return c.timedSync(f.out.Sync)
	}
	return nil
}

// closeLargeFile closes everything that the file has open.
func (c *copyRun) closeLargeFile(f *largeFile) (err error) {
	c.mu.Lock()
	delete(c.large, f)
	c.mu.Unlock()
	if f.reader != nil {
		_, err = f.reader.Close()
	}
	for _, file := range []*sys.File{f.in, f.out} {
		if file != nil {
			err = firstError(err, file.Close())
		}
	}
	return err
}

// closeLargeFiles closes the files that a failed copy has left open. The error of the copy
// is more important than those of closing them.
func (c *copyRun) closeLargeFiles() {
	for f := range c.large {
		_ = c.closeLargeFile(f)
	}
}
