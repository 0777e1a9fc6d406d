package shardtossd

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"runtime"
	"time"

	"shard_to_ssd/copier"
	"shard_to_ssd/internal/errs"
	"shard_to_ssd/internal/humanize"
	"shard_to_ssd/internal/pool"
	"shard_to_ssd/internal/published"
	"shard_to_ssd/internal/statedir"
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/tree"
	"shard_to_ssd/locking"
)

// operation is the part that all operations on a host share: the open SSD dir, the
// locks, the messages, and the summary of the result. It must be ended.
type operation struct {
	Host
	Work
	lockTimeout  *time.Duration
	needsLockDir bool // it must exist

	shard   published.Shard // without a name in an operation on all shards
	lockDir string          // absolute and real: the state dirs record it
	user    *locking.UserFile
	summary Summary
	started time.Time
}

func newOperation(h Host, w Work) *operation {
	if w.Observer == nil {
		w.Observer = copier.NopObserver{}
	}
	return &operation{Host: h, Work: w, started: time.Now()}
}

// MaxDefaultJobs is the most workers that are chosen when Work.Jobs is 0.
const MaxDefaultJobs = pool.MaxDefaultWorkers

// MaxJobs bounds Work.Jobs, and so threads, descriptors and memory: 256 workers have 1 GiB
// of buffers.
const MaxJobs = 256

// checkWork refuses numbers that cannot be meant.
func (op *operation) checkWork() error {
	if op.Jobs < 0 || op.Jobs > MaxJobs {
		return usagef("%d jobs: want at most %d workers, or 0 to choose", op.Jobs, MaxJobs)
	}
	if op.Bandwidth < 0 {
		return usagef("a bandwidth of %d bytes a second: want more than 0, or 0 for no limit", op.Bandwidth)
	}
	return nil
}

func checkMaxAge(age time.Duration) error {
	if age < 0 {
		return usagef("an age of %v: want more than 0, or 0 to skip nothing", age)
	}
	return nil
}

// setShard names the shard that the operation is about.
func (op *operation) setShard(path string) error {
	if path == "" {
		return usagef("no shard is named")
	}
	name, err := statedir.ShardName(path)
	op.shard.Name, op.summary.Shard = name, name
	return errs.WithKind(err, ErrUsage)
}

// beginShard begins an operation on one shard.
func (op *operation) beginShard(path string) error {
	if err := op.setShard(path); err != nil {
		return err
	}
	if err := op.checkWork(); err != nil {
		return err
	}
	return op.openHost()
}

// beginUser is beginShard for an operation that registers or unregisters a user. It
// refuses an id that cannot be a line of a user file.
func (op *operation) beginUser(shard, id string) error {
	if err := locking.CheckID(id); err != nil {
		return usagef("id %q: %w", id, err)
	}
	return op.beginShard(shard)
}

// openHost opens the SSD dir, and chooses the workers for it. A lock dir that does not exist has no user files, and
// a hook must not fail because of it: only Ensure needs one.
func (op *operation) openHost() error {
	lockDir, err := sys.RealPath(op.LockDir)
	if errors.Is(err, fs.ErrNotExist) && !op.needsLockDir {
		lockDir, err = filepath.Abs(op.LockDir)
	}
	if err != nil {
		return fmt.Errorf("lock dir: %w", err)
	}
	op.lockDir = lockDir
	op.shard.SSDDir = op.SSDDir
	if op.shard.SSD, err = sys.OpenDir(op.SSDDir); err != nil {
		return fmt.Errorf("SSD dir: %w", err)
	}
	op.chooseWorkers()
	return op.checkMountPoint()
}

// checkMountPoint refuses an SSD dir that must be a mount point and is not: without the
// mount, the copy would fill the root file system.
func (op *operation) checkMountPoint() error {
	s, err := op.shard.SSD.Stat()
	if err != nil || !op.RequireMount || op.shard.SSD.IsMountPoint(&s) {
		return err
	}
	return errs.WithKind(fmt.Errorf("SSD dir %q is not a mount point: mount the SSD, or drop --require-mount", op.SSDDir), ErrNotMountPoint)
}

// perform begins the operation, runs it, and ends it.
func (op *operation) perform(begin, run func() error) error {
	if err := begin(); err != nil {
		return op.end(err)
	}
	return op.end(run())
}

// end releases the lock and the SSD dir, and completes the summary.
func (op *operation) end(err error) error {
	err = errs.Join(err, op.unlock())
	if op.shard.SSD != nil {
		op.shard.SSD.Close()
	}
	op.summary.Duration = time.Since(op.started)
	if err != nil {
		op.summary.Outcome = ""
	}
	return withPublicKind(err)
}

// unlock gives the user file's lock back; it may be called again.
func (op *operation) unlock() error {
	if op.user == nil {
		return nil
	}
	user := op.user
	op.user = nil
	if err := user.Unlock(); err != nil {
		return err
	}
	op.log(Info, "shard_to_ssd", "Lock on file %s released", user.Path())
	return nil
}

func (op *operation) log(level Level, subsystem, format string, args ...any) {
	if op.Log != nil {
		op.Log.Log(level, subsystem, fmt.Sprintf(format, args...))
	}
}

func (op *operation) info(format string, args ...any) { op.log(Info, "root", format, args...) }
func (op *operation) warn(format string, args ...any) { op.log(Warning, "root", format, args...) }

// chooseWorkers settles how many workers there are.
func (op *operation) chooseWorkers() {
	if op.Jobs > 0 {
		op.recordChoice("workers", fmt.Sprint(op.Jobs), "as given")
		return
	}
	cpus, depth := runtime.NumCPU(), op.shard.SSD.QueueDepth()
	op.Jobs = pool.DefaultWorkers(cpus, depth)
	queue := fmt.Sprintf("the SSD's device queues %s", humanize.Count(depth, "request"))
	if depth == 0 {
		queue = "the SSD has no device that says how many requests it queues"
	}
	op.recordChoice("workers", fmt.Sprint(op.Jobs), fmt.Sprintf("%s; %s", humanize.Count(cpus, "CPU"), queue))
}

// chooseTransfers settles how bytes are moved.
func (op *operation) chooseTransfers() {
	if op.Bandwidth > 0 {
		op.recordChoice("block", fmt.Sprint(tree.BlockSize), "bytes: the unit of checksums of large files, which are read and written in pieces")
		op.recordChoice("depth", fmt.Sprint(pool.PiecesAtOnce), "pieces in flight, of all files together")
		op.recordChoice("pace", fmt.Sprint(op.Bandwidth), fmt.Sprintf("bytes a second as given, in pieces of %d", pool.PieceSize(op.Bandwidth)))
		return
	}
	op.recordChoice("block", fmt.Sprint(tree.BlockSize), "bytes: the unit of reading, writing and checksums of large files")
	op.recordChoice("depth", fmt.Sprint(op.Jobs), "blocks of large files in flight, one for each worker; each reads up to 32 small files at once where the kernel can")
}

func (op *operation) recordChoice(what, value, why string) {
	op.summary.Choices = append(op.summary.Choices, Choice{what, value, why})
	if op.Verbose {
		op.info("Chose %s %s: %s", what, value, why)
	}
}
