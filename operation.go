package shardtossd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"shard_to_ssd/copier"
	"shard_to_ssd/internal/errs"
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/locking"
	"shard_to_ssd/verify"
)

// operation is one call of Ensure, Release, Verify or List under way.
type operation struct {
	Options
	name    string // of the shard
	lockDir string // absolute, real: what the state dir records
	ssd     *sys.File
	user    *locking.UserFile
	result  Result
	started time.Time
	visible bool // the shard has its public name: its user file must stay

	differenceBytes int // of all differences
	repairBytes     int // of all repairs
}

// begin checks the options and opens the SSD dir. The operation must be ended.
func begin(o Options, what string) (*operation, error) {
	op := &operation{Options: o, started: time.Now(), result: Result{Operation: what}}
	if op.Observer == nil {
		op.Observer = copier.Nobody{}
	}
	if what == opVerifyAll && o.Shard != "" {
		return op, usagef("shard %q is named where all are meant", o.Shard)
	}
	if o.MaxAge < 0 {
		return op, usagef("an age of %v: wanted 0, to skip nothing, or more", o.MaxAge)
	}
	if o.Shard != "" || (what != opList && what != opVerifyAll) {
		name, err := shardName(o.Shard)
		if err != nil {
			return op, err
		}
		op.name, op.result.Shard = name, name
	}
	if err := op.checkNumbers(); err != nil {
		return op, err
	}
	if what == opCopy || what == opRemove {
		if err := checkID(o.ID); err != nil {
			return op, err
		}
	}
	lockDir, err := sys.RealPath(o.LockDir)
	if errors.Is(err, fs.ErrNotExist) && what != opCopy {
		lockDir, err = filepath.Abs(o.LockDir) // no user file, then; a hook must not fail for it
	}
	if err != nil {
		return op, fmt.Errorf("lock dir: %w", err)
	}
	op.lockDir = lockDir
	if op.ssd, err = sys.OpenDir(o.SSDDir); err != nil {
		return op, fmt.Errorf("SSD dir: %w", err)
	}
	op.chooseWorkers()
	return op, op.checkMount()
}

func (op *operation) checkNumbers() error {
	if op.Jobs < 0 || op.Jobs > maxJobs {
		return usagef("%d jobs: at most %d workers, or 0 to choose", op.Jobs, maxJobs)
	}
	if op.Bandwidth < 0 {
		return usagef("a bandwidth of %d bytes a second: wanted 0, for no bound, or more", op.Bandwidth)
	}
	return nil
}

// maxJobs bounds threads, descriptors and memory: 1 GiB of buffers.
const maxJobs = 256

// The values of Result.Operation.
const (
	opCopy   = "copy"
	opRemove = "remove"
	opVerify = "verify"
	opList   = "list"
	opRepair = "repair"
	opAdopt  = "adopt"

	opVerifyAll = "verify-all"
)

// end releases what the operation holds and completes its result.
func (op *operation) end(err error) (*Result, error) {
	err = errs.Join(err, op.unlock())
	if sys.NoSpace(err) {
		err = asKind(err, ErrNoSpace)
	}
	if op.ssd != nil {
		op.ssd.Close() //nolint:errcheck // opened for reading
	}
	op.complete(err)
	return &op.result, err
}

// complete fills in what is known of every operation when it is over.
func (op *operation) complete(err error) {
	op.result.Seconds = time.Since(op.started).Seconds()
	if err != nil {
		op.result.Outcome, op.result.Error = "", err.Error()
	}
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

// acquire takes the lock on the user file.
func (op *operation) acquire(ctx context.Context, create bool) error {
	began := time.Now()
	user, err := locking.Acquire(ctx, op.LockDir, op.name, locking.Options{
		Create: create, Timeout: op.LockTimeout, OnWait: func(pid int) { op.sayWaiting(ctx, pid) }})
	op.result.LockSeconds = time.Since(began).Seconds()
	if errors.Is(err, locking.ErrTimeout) {
		return &kindError{ErrLockTimeout, err}
	}
	if err != nil {
		return err
	}
	op.user = user
	op.log(Info, "shard_to_ssd", "Lock on file %s acquired", user.Path())
	return nil
}

// sayWaiting tells whom the lock is waited for, and how far that one's copy is.
func (op *operation) sayWaiting(ctx context.Context, pid int) {
	op.log(Info, "shard_to_ssd", "Waiting for the lock on file %s, held by %s%s",
		filepath.Join(op.LockDir, op.name+".lock"), process(pid), op.howFar(ctx))
}

// process names one that may be unknown, 0.
func process(pid int) string {
	if pid == 0 {
		return "another process"
	}
	return fmt.Sprintf("process %d", pid)
}

// howFar is what to say of the copy of whoever has the lock. Of a very large shard
// it takes too long, and on an SSD that hangs for ever: neither may keep this
// process from giving up in time.
func (op *operation) howFar(ctx context.Context) string {
	s, err := openState(op.ssd, op.name)
	if err != nil {
		return ""
	}
	limit := time.Second
	if op.LockTimeout != nil {
		limit = min(limit, *op.LockTimeout)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	far := make(chan string, 1)
	go func() {
		defer s.close() //nolint:errcheck // opened for reading
		text := ""
		if done, total, err := copier.Progress(ctx, s.File); err == nil && total > 0 {
			text = fmt.Sprintf(", which has copied %d%% of %d bytes", done*100/total, total)
		}
		far <- text
	}()
	select {
	case text := <-far:
		return text
	case <-ctx.Done():
		return ""
	}
}

// patience is what is left of the time for waiting, after the user file's lock.
func (op *operation) patience() *patience {
	p := &patience{limit: op.LockTimeout, began: time.Now(), onWait: func(s *stateDir) {
		op.log(Info, "shard_to_ssd", "Waiting for the lock on state dir %s, held by %s", s.Path(), process(locking.Holder(s.File)))
	}}
	if p.limit != nil {
		p.left = *p.limit - time.Duration(op.result.LockSeconds*float64(time.Second))
	}
	return p
}

// checkMount looks at what the SSD dir is mounted on: an SSD that is not mounted
// must not fill the root file system.
func (op *operation) checkMount() error {
	s, err := op.ssd.Stat()
	if err != nil || !op.RequireMount || op.isMountPoint(&s) {
		return err
	}
	return fmt.Errorf("SSD dir %q is not a mount point: mount the SSD, or go without --require-mount", op.SSDDir)
}

// isMountPoint asks statx, which knows bind mounts; before Linux 5.8 the device
// of the directory above tells.
func (op *operation) isMountPoint(s *sys.Stat) bool {
	if s.MountPoint {
		return true
	}
	above, err := op.ssd.StatAt("..")
	return err == nil && above.Dev != s.Dev
}

// warnOfRoot warns before the first state dir is made on the root file system.
func (op *operation) warnOfRoot() {
	if _, err := op.ssd.StatAt(stateRootName); !sys.Is(err, unix.ENOENT) {
		return
	}
	s, err := op.ssd.Stat()
	if err != nil || op.isMountPoint(&s) {
		return
	}
	if root, err := sys.StatPath("/"); err == nil && root.Dev == s.Dev {
		op.warn("SSD dir %q is on the root file system; if an SSD should be mounted there, it is not (--require-mount makes that an error)", op.SSDDir)
	}
}

// published is the state of <ssddir>/<shard>, nil if there is none.
func (op *operation) published() (*sys.Stat, error) {
	s, err := op.ssd.StatAt(op.name)
	if sys.Is(err, unix.ENOENT) {
		return nil, nil
	}
	return &s, err
}

// boundManifest opens the manifest in a state dir if it is there, can be read,
// and belongs to what is published. A manifest that cannot be used is told of.
func (op *operation) boundManifest(state *stateDir, pub *sys.Stat) (*verify.Manifest, error) {
	if state == nil || pub == nil {
		return nil, nil
	}
	m, err := verify.OpenManifest(state.File)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case unusable(err):
		op.warn("%v", err)
		return nil, nil
	case err != nil:
		return nil, err
	}
	if m.BoundTo(pub) && m.Shard == op.name {
		return m, nil
	}
	return nil, m.Close()
}

// unusable reports a manifest that can tell nothing, damaged or of another version.
// One that only this process had not the means to read is not: the next call may
// read it.
func unusable(err error) bool {
	return (errors.Is(err, verify.ErrManifest) || errors.Is(err, verify.ErrVersion)) && !verify.Ours(err)
}

// openStateIfThere opens the shard's state dir, nil if there is none, and refuses
// one of another lock dir.
func (op *operation) openStateIfThere() (*stateDir, error) {
	s, err := openState(op.ssd, op.name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := s.checkLockDir(op.lockDir); err != nil {
		s.close() //nolint:errcheck // opened for reading
		return nil, err
	}
	return s, nil
}

// lockState opens, makes if needed, and locks the shard's state dir.
func (op *operation) lockState(ctx context.Context) (*stateDir, error) {
	op.warnOfRoot()
	p := op.patience()
	defer func() { op.result.LockSeconds += time.Since(p.began).Seconds() }()
	for {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		s, err := makeState(op.ssd, op.name)
		if errors.Is(err, errUnlinked) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if err = s.checkLockDir(op.lockDir); err == nil {
			err = s.lock(ctx, p)
		}
		if err == nil {
			err = s.recordLockDir(op.lockDir)
		}
		if err == nil {
			return s, nil
		}
		s.close() //nolint:errcheck // opened for reading
		if !errors.Is(err, errUnlinked) {
			return nil, err
		}
	}
}

// queueDepth is how many requests the block device of the SSD dir queues, 0 if
// there is none or it does not say. A partition's queue is its disk's.
func queueDepth(ssd *sys.File) int {
	s, err := ssd.Stat()
	if err != nil {
		return 0
	}
	device := fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(s.Dev), unix.Minor(s.Dev))
	for _, queue := range []string{"/queue", "/../queue"} {
		f, err := sys.Open(device+queue+"/nr_requests", unix.O_RDONLY)
		if err != nil {
			continue
		}
		buf := make([]byte, 32)
		n, _ := f.ReadAt(buf, 1, 0)
		f.Close() //nolint:errcheck // opened for reading
		depth := 0
		fmt.Sscan(strings.TrimSpace(string(buf[:n])), &depth) //nolint:errcheck // 0 is "unknown"
		return depth
	}
	return 0
}
