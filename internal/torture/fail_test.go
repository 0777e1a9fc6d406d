package torture

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/testkit"
)

// errorNumbers are errors that any call may return.
var errorNumbers = []unix.Errno{unix.EIO, unix.ENOSPC, unix.EDQUOT, unix.EROFS, unix.EACCES, unix.EMFILE, unix.ENOMEM, unix.EPERM}

// errorTables lists, for two calls, the errors after which another engine continues,
// those after which it continues only if no part of the file was copied yet, and those
// that are final.
var errorTables = []struct {
	call, operation               string
	continues, ifUntouched, final []unix.Errno
}{
	{"copy_file_range", "copy range",
		[]unix.Errno{unix.ENOSYS, unix.EXDEV, unix.EOPNOTSUPP, unix.EINVAL, unix.EPERM, unix.EINTR},
		[]unix.Errno{unix.EBADF, unix.EACCES, unix.ETXTBSY, unix.ENOTTY, unix.ENOENT},
		[]unix.Errno{unix.EIO, unix.ENOSPC, unix.EDQUOT, unix.EFBIG, unix.ENOMEM}},
	{"fallocate", "copy direct",
		[]unix.Errno{unix.EOPNOTSUPP, unix.ENOSYS, unix.ENODEV, unix.EINTR},
		nil,
		[]unix.Errno{unix.ENOSPC, unix.EDQUOT, unix.EIO, unix.EFBIG}},
}

// Every system call of every operation fails once, or always from then on. The
// operation succeeds all the same, or it reports the failed call, and nothing is lost.
func TestEveryCallFails(t *testing.T) {
	rounds(t, 0.3, func(t *testing.T, r *round) {
		on := newSweeps(t, r)
		for _, i := range r.Perm(len(operations)) {
			op, s := &operations[i], on(i)
			for _, f := range s.faultsFor(op, r) {
				if r.over() {
					break
				}
				s.startTrial(op, f, []int{1, 4}[r.IntN(2)], (*trial).checkFailed)
			}
		}
		on(0).group.Wait()
	})
}

// faultsFor returns the faults of an operation in one round. Each call gets one error,
// so that all errors are tried at each call after as many rounds as there are errors.
// Each kind of call gets errors that last.
func (s *sweep) faultsFor(op *operation, r *round) (list []fault) {
	calls := s.baseCalls(op, 1)
	for n := range calls {
		errno := errorNumbers[(uint64(n)+r.seed)%uint64(len(errorNumbers))]
		list = append(list, fault{action: unix.ErrnoName(errno), at: n + 1})
	}
	kinds, of := countKinds(calls)
	for _, kind := range kinds {
		for _, errno := range errorNumbers {
			list = append(list, fault{action: unix.ErrnoName(errno), at: 1 + r.IntN(of[kind]), step: 1, only: kind})
		}
	}
	for _, kind := range []struct {
		errno unix.Errno
		calls string
	}{{unix.ENOSPC, growing}, {unix.EDQUOT, growing}, {unix.EROFS, changing}, {unix.EIO, changing + ",read"}} {
		list = append(list, fault{action: unix.ErrnoName(kind.errno), at: 1 + r.IntN(len(calls)/4+1), step: 1, only: kind.calls})
	}
	r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	if !r.full {
		list = list[:min(len(list), failuresOfOne)]
	}
	return list
}

// failuresOfOne is the number of faults of one operation in a bounded round.
const failuresOfOne = 5

// growing are the calls that fail on a full disk, changing those that fail on a
// read-only one.
const (
	growing  = "write,fallocate,mkdir,create,symlink,link,copy_file_range"
	changing = growing + ",truncate,rename,unlink,rmdir,chmod,chown,set times of,fsync,fdatasync,syncfs"
)

// checkFailed checks a run with failed calls.
func (t *trial) checkFailed() error {
	count("error at a system call, "+t.s.fs.Name, 1)
	hit := actedCalls(t.calls)
	if len(hit) == 0 {
		return t.checkUndisturbed()
	}
	if err := t.checkEnded(); err != nil {
		return err
	}
	if err := t.op.checkSound(t.h, t.s.sourcePath("foreign")); err != nil {
		return err
	}
	var err error
	if t.status == 0 {
		err = errors.Join(t.checkDone(), t.checkNothingLost())
	} else {
		err = errors.Join(t.checkMessage(hit), t.checkStageMessage(), t.checkNoUserFile(hit))
	}
	return errors.Join(err, t.op.checkRecovery(t.h))
}

// checkDone is checkDone of the operation, except for a removal that reports that it
// left a shard because the manifest is not readable.
func (t *trial) checkDone() error {
	if !t.op.there && strings.Contains(t.err, "is left: this tool did not publish it") {
		return nil
	}
	return t.op.checkDone(t.h)
}

// checkEnded checks that the run ended by itself, without a hang or a panic.
func (t *trial) checkEnded() error {
	switch {
	case t.status == statusHung:
		return fmt.Errorf("it hung for %v", limit)
	case t.status > 5 || t.status == 2 || strings.Contains(t.err, "goroutine "):
		return fmt.Errorf("got status %d", t.status)
	case t.status == 0 && t.op.refused:
		return errors.New("it succeeded, want a refusal")
	}
	return nil
}

// checkMessage checks the report of a failure: one error line with an operation, a path
// and the cause of a call that was hit, and the matching status.
func (t *trial) checkMessage(hit []logged) error {
	lines := slices.DeleteFunc(strings.Split(t.err, "\n"), func(l string) bool { return !strings.HasPrefix(l, "ERROR:") })
	if len(lines) != 1 {
		return fmt.Errorf("got %d lines with errors, want 1", len(lines))
	}
	errno, named := errnoOf(t.fault.action)
	told := slices.ContainsFunc(hit, func(c logged) bool {
		return strings.Contains(lines[0], strings.TrimSuffix(c.op, " at once")+" "+c.path) && (!named || strings.Contains(lines[0], errno.Error()))
	})
	if !told && !t.op.refused && !t.reportedAsDamage(hit) {
		return fmt.Errorf("the error does not name the failed call (%v: %v)", hit[0], errno)
	}
	return t.checkStatus(errno, hit)
}

// reportedAsDamage reports whether --verify or --repair listed the unreadable entry
// among the differences. A copy reports it as an error.
func (t *trial) reportedAsDamage(hit []logged) bool {
	said, reads := t.out+t.err, t.op.mode == "--verify" || t.op.mode == "--repair"
	return reads && t.status == 3 && strings.Contains(said, "unreadable") && strings.Contains(said, hit[0].path)
}

func (t *trial) checkStatus(errno unix.Errno, hit []logged) error {
	want := 1
	if errno == unix.ENOSPC || errno == unix.EDQUOT {
		want = 4
	}
	xattr := slices.ContainsFunc(hit, func(c logged) bool { return strings.HasPrefix(c.op, "set xattr") })
	source := (t.op.first != "" || t.op.mode == "--repair") && t.status == 1 && strings.Contains(t.err, "unreadable") // the entry that cannot be compared
	if t.status == want || (xattr && t.status == 1) || t.op.refused || t.reportedAsDamage(hit) || source {
		return nil
	}
	return fmt.Errorf("got status %d, want %d", t.status, want)
}

// checkStageMessage compares the error message about the stage with the disk.
func (t *trial) checkStageMessage() error {
	_, err := os.Lstat(filepath.Join(t.h.stateDir(), "stage"))
	there := err == nil
	switch {
	case there && strings.Contains(t.err, "nothing of the copy was left"):
		return errors.New("a stage was left, but the message says that nothing was")
	case !there && strings.Contains(t.err, "the copied part is kept"):
		return errors.New("there is no stage, but the message says that the copy is kept")
	}
	return nil
}

// checkNoUserFile wants no user file after a failed first copy, because it would mark
// the shard as managed. If the fault was in the lock dir, the file could not be
// unlinked and may stay.
func (t *trial) checkNoUserFile(hit []logged) error {
	_, err := os.Lstat(t.h.userFile())
	_, missing := os.Lstat(t.h.published())
	if t.op.prepare != nil || err != nil || missing == nil || t.fault.step > 0 {
		return nil
	}
	if last := hit[0]; filepath.Dir(last.path) == t.h.locks || last.path == t.h.locks {
		return nil
	}
	return errors.New("a failed first copy left its user file")
}

// checkNothingLost wants each failed sync, and each failed close of a written file,
// reported: the data may be lost.
func (t *trial) checkNothingLost() error {
	written := map[string]bool{}
	for i, c := range t.calls {
		switch c.op {
		case "fsync", "fdatasync", "syncfs":
			if c.acted && !t.mayFail(c, t.calls[i+1:]) {
				return fmt.Errorf("%v failed, but the run succeeded", c)
			}
		case "write", "copy_file_range", "fallocate", "truncate", "clone":
			written[c.path] = true
		case "close":
			if c.acted && written[c.path] && !t.mayFail(c, t.calls[i+1:]) {
				return fmt.Errorf("%v failed after a write, but the run succeeded", c)
			}
		}
	}
	return nil
}

// Batch reads: each of their calls fails, ends early, moves nothing, or is the last
// one, and a single file of a batch gets a short read or an error. The tool reads in
// batches only files that are not in the page cache, of a source or of a shard that is
// verified.
func TestReadsAtOnce(t *testing.T) {
	s := newSweep(t, testkit.FS{Name: "ext4", Dir: testkit.Mount(t, "ext4", 256<<20)})
	failReadsAtOnce(t, s, operationNamed("copy cold"), 80) // 40 files, in the source and in the copy
	failReadsAtOnce(t, s, operationNamed("verify many"), 40)
}

func failReadsAtOnce(t *testing.T, s *sweep, op *operation, files int) {
	_, of := countKinds(s.baseCalls(op, 1))
	if of["submit reads of"] < files/20 || of["read at once"] < files {
		t.Fatalf("%s: the files were not read at once: %v", op.name, of)
	}
	points := 1 // for each kind of call
	if *torture > 0 {
		points = 40
	}
	for _, kind := range []string{"set up", "submit reads of", "wait for reads of", "tear down", "read at once"} {
		for n := 1; n <= of[kind]; n += 1 + of[kind]/points {
			for _, action := range []string{"zero", "short", "EINTR"} {
				s.runTrial(op, fault{action: action, at: n, only: kind}, 1, (*trial).checkUndisturbed)
			}
			for _, errno := range []string{"EIO", "EAGAIN", "ENOMEM", "EINVAL"} {
				s.runTrial(op, fault{action: errno, at: n, only: kind}, 1, (*trial).checkFailed)
			}
			s.runTrial(op, fault{action: "kill-after", at: n, only: kind}, 1, (*trial).checkKilled)
		}
		for _, action := range []string{"zero", "short"} {
			s.runTrial(op, fault{action: action, at: 1, step: 1, only: kind}, 1, (*trial).checkUndisturbed)
		}
	}
}

// A process with a low limit of open files can copy: batch reads use only the
// descriptors that are available.
func TestFewDescriptors(t *testing.T) {
	dir := testkit.Mount(t, "ext4", 256<<20)
	h := newHost(t, program(t), filepath.Join(dir, "from"), dir)
	for i := range 20 * 40 {
		testkit.Apply(t, h.source, testkit.File(fmt.Sprint("d", i/40, "/", i), 3000, uint64(i)))
	}
	for _, limit := range []int{100, 256, 400, 1024} {
		if err := testkit.EvictTree(h.source); err != nil {
			t.Fatal(err)
		}
		c := h.command("-c", "a", "--jobs", "16")
		limited := exec.Command("sh", append([]string{"-c", fmt.Sprintf(`ulimit -n %d; exec "$0" "$@"`, limit)}, c.Args...)...)
		if o := runCommand(limited); o.status != 0 {
			t.Errorf("with %d descriptors: %v", limit, o)
		}
		if err := errors.Join(h.checkWhole(), h.checkRecovery()); err != nil {
			t.Errorf("with %d descriptors: %v", limit, err)
		}
	}
}

// Calls whose errors were once ignored or reported wrongly: each of them fails in each
// round.
func TestCallsOnceMistaken(t *testing.T) {
	s := newSweep(t, testkit.FS{Name: "tmpfs", Dir: testkit.Mount(t, "tmpfs", 256<<20)})
	for _, c := range []struct {
		operation, call, action string
		check                   func(*trial) error
	}{
		{"verify", "open", "EIO", (*trial).checkFailed},             // was reported as a lost hard link
		{"verify", "stat", "EACCES", (*trial).checkFailed},          // was reported as a removed shard
		{"verify", "cachestat", "ENOMEM", (*trial).checkFailed},     // was reported as damage
		{"register long", "read", "zero", (*trial).checkNoProgress}, // users were lost
		{"remove unknown", "unlink", "EPERM", (*trial).checkFailed}, // was reported as "not a directory"
		{"remove orphan", "read", "EMFILE", (*trial).checkFailed},   // was reported as a damaged manifest
	} {
		op := operationNamed(c.operation)
		_, of := countKinds(s.baseCalls(op, 1))
		for n := 1; n <= of[c.call]; n++ {
			s.startTrial(op, fault{action: c.action, at: n, only: c.call}, 1, c.check)
		}
	}
	s.group.Wait()
}

// A file of the stage that was cloned and then cannot be opened is copied again. An
// earlier version took it for a complete clone.
func TestClonedFileThatCannotBeOpened(t *testing.T) {
	s := newSweep(t, testkit.FS{Name: "btrfs", Dir: testkit.Mount(t, "btrfs", 256<<20)})
	op, opens, tried := operationNamed("resume early"), 0, 0
	for _, c := range s.baseCalls(op, 1) {
		if c.op != "open" {
			continue
		}
		opens++
		if strings.Contains(c.path, "/"+shardName+"/stage/") {
			tried++
			s.startTrial(op, fault{action: "EACCES", at: opens, only: "open"}, 1, (*trial).checkFailed)
		}
	}
	s.group.Wait()
	if tried < 10 {
		t.Errorf("only %d calls open files of the stage", tried)
	}
}

// A read error while a complete stage is compared with its manifest is an error and not
// damage: the stage is kept.
func TestStageThatCannotBeRead(t *testing.T) {
	s := newSweep(t, testkit.FS{Name: "tmpfs", Dir: testkit.Mount(t, "tmpfs", 256<<20)})
	op := operation{name: "copy tiny", source: "tiny", mode: "-c", id: "a", after: []string{"a"}, there: true}
	calls, tried := s.baseCalls(&op, 1), 0
	manifest := slices.IndexFunc(calls, func(c logged) bool { return c.op == "open" && filepath.Base(c.path) == "manifest.new" })
	for n := manifest; n < len(calls) && calls[n].op != "rename"; n++ {
		if inStage := strings.Contains(calls[n].path, "/"+shardName+"/stage"); !inStage || calls[n].op == "fsync" {
			continue
		}
		tried++
		s.startTrial(&op, fault{action: "EIO", at: n + 1}, 1, func(t *trial) error {
			if t.status != 1 || !strings.Contains(t.err, "the copied part is kept") {
				return fmt.Errorf("%v failed, and the stage was not kept", calls[n])
			}
			return t.checkFailed()
		})
	}
	s.group.Wait()
	if tried < 10 {
		t.Errorf("only %d calls read the stage: %v", tried, calls[manifest:])
	}
}

// mayFail reports whether a run may succeed although this sync or close failed.
func (t *trial) mayFail(c logged, after []logged) bool {
	again := slices.ContainsFunc(after, func(l logged) bool { return !l.acted && l.op == c.op && l.path == c.path })
	full := t.fault.action == "ENOSPC" || t.fault.action == "EDQUOT"
	base := filepath.Base(c.path)
	if strings.HasPrefix(base, "verified.new.") || strings.HasPrefix(base, "damaged.new.") { // a record for --list: its failure is a warning
		return t.op.mode == "--verify" || t.op.mode == "--repair"
	}
	switch base {
	case "journal", "plan", "probe.file": // not needed after the copy is published
		return c.op == "close"
	case "manifest.new", "sums.xxh64.new": // it was closed before, and opened again for reading
		return c.op == "close" && again
	case "ssd", ".shard_to_ssd", shardName, "lockdir.new": // the run makes room and starts again
		warned := func(text string) bool { return strings.Contains(t.err, text+": "+c.op+" "+c.path) }
		return full && again || warned("cannot be deleted") || warned("the next call tries again") // by -c and by --repair
	}
	return false
}

func errnoOf(action string) (number unix.Errno, ok bool) {
	for n := unix.Errno(1); n < 256; n++ {
		if unix.ErrnoName(n) == action {
			return n, true
		}
	}
	return 0, false
}

// Short transfers and interrupted calls throughout a run are not failures.
func TestShortAndInterruptedEverywhere(t *testing.T) {
	rounds(t, 0.05, func(t *testing.T, r *round) {
		s := newSweep(t, sweepFS(t, r))
		for i := range operations {
			op := &operations[i]
			for _, f := range []fault{{action: "short", at: 1, step: 1}, {action: "EINTR", at: 1, step: 2}} {
				s.startTrial(op, f, []int{1, 4}[r.IntN(2)], (*trial).undisturbedBy)
			}
		}
		s.group.Wait()
	})
}

func (t *trial) undisturbedBy() error {
	count(t.fault.action+" at every call", 1)
	if len(actedCalls(t.calls)) == 0 {
		return errors.New("the fault did not act")
	}
	return t.checkUndisturbed()
}

// A transfer of 0 bytes is the end of the file. It must not lead to an endless loop.
func TestNoProgress(t *testing.T) {
	rounds(t, 0.05, func(t *testing.T, r *round) {
		s := newSweep(t, sweepFS(t, r))
		for i := range operations {
			op := &operations[i]
			_, of := countKinds(s.baseCalls(op, 1))
			for _, kind := range []string{"read", "write", "copy_file_range", "submit reads of", "wait for reads of", "read at once"} {
				for n := 1; n <= of[kind]; n++ {
					if f := (fault{action: "zero", at: n, only: kind, step: r.IntN(2)}); r.full || r.IntN(2*of[kind]) == 0 {
						s.startTrial(op, f, 1, (*trial).checkNoProgress)
					}
				}
			}
		}
		s.group.Wait()
	})
}

// checkNoProgress checks a run with calls that moved nothing.
func (t *trial) checkNoProgress() error {
	count("transfer of nothing", 1)
	hit := actedCalls(t.calls)
	if len(hit) == 0 {
		return t.checkUndisturbed()
	}
	if err := errors.Join(t.checkEnded(), t.op.checkSound(t.h, t.s.sourcePath("foreign"))); err != nil {
		return err
	}
	if t.status == 0 {
		if err := t.checkDone(); err != nil {
			return err
		}
	} else if !strings.Contains(t.err, "ERROR:") {
		return errors.New("it failed without a message")
	}
	return t.op.checkRecovery(t.h)
}

// Each error of errorTables, at the first call and at a later one.
func TestTablesOfErrors(t *testing.T) {
	rounds(t, 0.02, func(t *testing.T, r *round) {
		s := newSweep(t, sweepFS(t, r))
		for _, table := range errorTables {
			op := operationNamed(table.operation)
			_, of := countKinds(s.baseCalls(op, 1))
			each := func(list []unix.Errno, check func(*trial) error) {
				for _, errno := range list {
					for _, at := range []int{1, 1 + r.IntN(of[table.call])} {
						s.startTrial(op, fault{action: unix.ErrnoName(errno), at: at, only: table.call}, 1, check)
					}
				}
			}
			each(table.continues, (*trial).undisturbedBy)
			each(table.ifUntouched, (*trial).checkNotBegun)
			each(table.final, (*trial).mustFail)
		}
		s.group.Wait()
	})
}

func operationNamed(name string) *operation {
	return &operations[slices.IndexFunc(operations, func(op operation) bool { return op.name == name })]
}

// checkNotBegun looks at the calls before the one that was hit, all of one kind. If one
// of them was for the same file, a part of that file was copied, and the run must fail.
func (t *trial) checkNotBegun() error {
	for i, c := range t.calls {
		if c.acted && slices.ContainsFunc(t.calls[:i], func(l logged) bool { return l.path == c.path }) {
			return t.mustFail()
		}
	}
	return t.undisturbedBy()
}

func (t *trial) mustFail() error {
	if t.status == 0 {
		return errors.New("it continued after this error, want a failure")
	}
	if _, err := os.Lstat(t.h.published()); err == nil {
		return errors.New("published after a final error")
	}
	return t.checkFailed()
}
