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

// The errors that any call may return one day.
var numbers = []unix.Errno{unix.EIO, unix.ENOSPC, unix.EDQUOT, unix.EROFS, unix.EACCES, unix.EMFILE, unix.ENOMEM, unix.EPERM}

// What the design says of two calls: after which errors another engine goes on,
// after which it does so if nothing of the file was copied yet, and which are
// final.
var tables = []struct {
	call, operation        string
	goesOn, goesOn1, final []unix.Errno
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

// Every system call of every operation fails once, or from then on: the operation
// is done all the same, or it says what failed, and nothing is lost.
func TestEveryCallFails(t *testing.T) {
	rounds(t, 0.3, func(t *testing.T, r *round) {
		on := newSweeps(t, r)
		for _, i := range r.Perm(len(operations)) {
			op, s := &operations[i], on(i)
			for _, f := range s.failures(op, r) {
				if r.over() {
					break
				}
				s.each(op, f, []int{1, 4}[r.IntN(2)], (*trial).failsWell)
			}
		}
		on(0).group.Wait()
	})
}

// failures are the faults of an operation in one round: each call with an error, so
// that as many rounds as there are errors try all of them at each call, and each kind
// of call with errors that last.
func (s *sweep) failures(op *operation, r *round) (list []fault) {
	calls := s.base(op, 1)
	for n := range calls {
		errno := numbers[(uint64(n)+r.seed)%uint64(len(numbers))]
		list = append(list, fault{action: unix.ErrnoName(errno), at: n + 1})
	}
	kinds, of := kindsOf(calls)
	for _, kind := range kinds {
		for _, errno := range numbers {
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

// failuresOfOne is how many faults an operation gets in a bounded round.
const failuresOfOne = 7

// The calls that a full disk refuses, and those that one does which is read-only.
const (
	growing  = "write,fallocate,mkdir,create,symlink,link,copy_file_range"
	changing = growing + ",truncate,rename,unlink,rmdir,chmod,chown,set times of,fsync,fdatasync,syncfs"
)

// failsWell is what must hold of a run whose calls have failed.
func (t *trial) failsWell() error {
	count("error at a system call, "+t.s.fs.Name, 1)
	hit := acted(t.calls)
	if len(hit) == 0 {
		return t.undisturbed()
	}
	if err := t.ended(); err != nil {
		return err
	}
	if err := t.op.sound(t.h, t.s.source("foreign")); err != nil {
		return err
	}
	var err error
	if t.status == 0 {
		err = errors.Join(t.done(), t.nothingLost())
	} else {
		err = errors.Join(t.said(hit), t.saidWhatIsLeft(), t.leftNoUserFile(hit))
	}
	return errors.Join(err, t.op.recovers(t.h))
}

// done is the operation's, unless a removal says that it left a shard whose
// manifest it could not read.
func (t *trial) done() error {
	if !t.op.there && strings.Contains(t.err, "is left: it is not known as what this tool published") {
		return nil
	}
	return t.op.done(t.h)
}

// ended wants an end of its own: no hang, no panic.
func (t *trial) ended() error {
	switch {
	case t.status == statusHung:
		return fmt.Errorf("it hung for %v", limit)
	case t.status > 5 || t.status == 2 || strings.Contains(t.err, "goroutine "):
		return fmt.Errorf("it ended with status %d", t.status)
	case t.status == 0 && t.op.refused:
		return errors.New("it did what it must refuse")
	}
	return nil
}

// said wants the failure told: one line with an operation, a path and a cause of
// those that were hit, and the status that belongs to it.
func (t *trial) said(hit []logged) error {
	lines := slices.DeleteFunc(strings.Split(t.err, "\n"), func(l string) bool { return !strings.HasPrefix(l, "ERROR:") })
	if len(lines) != 1 {
		return fmt.Errorf("%d lines of errors, wanted 1", len(lines))
	}
	errno, named := errnoOf(t.fault.action)
	told := slices.ContainsFunc(hit, func(c logged) bool {
		return strings.Contains(lines[0], strings.TrimSuffix(c.op, " at once")+" "+c.path) && (!named || strings.Contains(lines[0], errno.Error()))
	})
	if !told && !t.op.refused && !t.saidAsDamage(hit) {
		return fmt.Errorf("the error does not name what failed (%v: %v)", hit[0], errno)
	}
	return t.rightStatus(errno, hit)
}

// saidAsDamage is for what --verify or --repair cannot read: that is damage, with the
// error among the differences. For a copy it is an error like others.
func (t *trial) saidAsDamage(hit []logged) bool {
	said, reads := t.out+t.err, t.op.mode == "--verify" || t.op.mode == "--repair"
	return reads && t.status == 3 && strings.Contains(said, "unreadable") && strings.Contains(said, hit[0].path)
}

func (t *trial) rightStatus(errno unix.Errno, hit []logged) error {
	want := 1
	if errno == unix.ENOSPC || errno == unix.EDQUOT {
		want = 4
	}
	xattr := slices.ContainsFunc(hit, func(c logged) bool { return strings.HasPrefix(c.op, "set xattr") })
	source := (t.op.first != "" || t.op.mode == "--repair") && t.status == 1 && strings.Contains(t.err, "unreadable") // of it: what cannot be compared
	if t.status == want || (xattr && t.status == 1) || t.op.refused || t.saidAsDamage(hit) || source {
		return nil
	}
	return fmt.Errorf("status %d, wanted %d", t.status, want)
}

// saidWhatIsLeft holds what the error says of the disk against the disk.
func (t *trial) saidWhatIsLeft() error {
	_, err := os.Lstat(filepath.Join(t.h.state(), "stage"))
	there := err == nil
	switch {
	case there && strings.Contains(t.err, "nothing of the copy was left"):
		return errors.New("a stage was left, and it says that nothing was")
	case !there && strings.Contains(t.err, "what was copied is kept"):
		return errors.New("no stage is there, and it says that what was copied is kept")
	}
	return nil
}

// leftNoUserFile wants none after a first copy that has failed, unless that could
// not be unlinked: it would say that somebody managed the shard.
func (t *trial) leftNoUserFile(hit []logged) error {
	_, err := os.Lstat(t.h.userFile())
	_, missing := os.Lstat(t.h.published())
	if t.op.prepare != nil || err != nil || missing == nil || t.fault.step > 0 {
		return nil
	}
	if last := hit[0]; filepath.Dir(last.path) == t.h.locks || last.path == t.h.locks {
		return nil
	}
	return errors.New("a first copy has failed, and left its user file")
}

// nothingLost wants no error of a sync or of the close of a written file passed
// over: the data may be gone.
func (t *trial) nothingLost() error {
	written := map[string]bool{}
	for i, c := range t.calls {
		switch c.op {
		case "fsync", "fdatasync", "syncfs":
			if c.acted && !t.expendable(c, t.calls[i+1:]) {
				return fmt.Errorf("%v failed, and the run did not", c)
			}
		case "write", "copy_file_range", "fallocate", "truncate", "clone":
			written[c.path] = true
		case "close":
			if c.acted && written[c.path] && !t.expendable(c, t.calls[i+1:]) {
				return fmt.Errorf("%v failed after it was written, and the run did not", c)
			}
		}
	}
	return nil
}

// Files that are read at once: each call of that fails, ends early, moves nothing, or
// is the last, and what came of one file is short or an error. Only what is not in the
// page cache is read like that, of a source and of a shard that is verified.
func TestReadsAtOnce(t *testing.T) {
	s := newSweep(t, testkit.FS{Name: "ext4", Dir: testkit.Mount(t, "ext4", 256<<20)})
	readsAtOnce(t, s, operationNamed("copy cold"), 80) // source and copy, of 40 files
	readsAtOnce(t, s, operationNamed("verify many"), 40)
}

func readsAtOnce(t *testing.T, s *sweep, op *operation, files int) {
	_, of := kindsOf(s.base(op, 1))
	if of["submit reads of"] < files/20 || of["read at once"] < files {
		t.Fatalf("%s: the files were not read at once: %v", op.name, of)
	}
	points := 3 // of each kind of call
	if *torture > 0 {
		points = 40
	}
	for _, kind := range []string{"set up", "submit reads of", "wait for reads of", "tear down", "read at once"} {
		for n := 1; n <= of[kind]; n += 1 + of[kind]/points {
			for _, action := range []string{"zero", "short", "EINTR"} {
				s.now(op, fault{action: action, at: n, only: kind}, 1, (*trial).undisturbed)
			}
			for _, errno := range []string{"EIO", "EAGAIN", "ENOMEM", "EINVAL"} {
				s.now(op, fault{action: errno, at: n, only: kind}, 1, (*trial).failsWell)
			}
			s.now(op, fault{action: "kill-after", at: n, only: kind}, 1, (*trial).survivesKill)
		}
		for _, action := range []string{"zero", "short"} {
			s.now(op, fault{action: action, at: 1, step: 1, only: kind}, 1, (*trial).undisturbed)
		}
	}
}

// Whoever may open few files copies all the same: reading many at once takes no more
// descriptors than there are.
func TestFewDescriptors(t *testing.T) {
	dir := testkit.Mount(t, "ext4", 256<<20)
	h := newHost(t, program(t), filepath.Join(dir, "from"), dir)
	for i := range 20 * 40 {
		testkit.Apply(t, h.source, testkit.File(fmt.Sprint("d", i/40, "/", i), 3000, uint64(i)))
	}
	for _, limit := range []int{100, 256, 400, 1024} {
		if err := testkit.Evict(h.source); err != nil {
			t.Fatal(err)
		}
		c := h.command("-c", "a", "--jobs", "16")
		limited := exec.Command("sh", append([]string{"-c", fmt.Sprintf(`ulimit -n %d; exec "$0" "$@"`, limit)}, c.Args...)...)
		if o := run(limited); o.status != 0 {
			t.Errorf("with %d descriptors: %v", limit, o)
		}
		if err := errors.Join(h.whole(), h.recovers()); err != nil {
			t.Errorf("with %d descriptors: %v", limit, err)
		}
	}
}

// Calls of one kind that once were passed over: each of them, in each run.
func TestCallsOnceMistaken(t *testing.T) {
	s := newSweep(t, testkit.FS{Name: "tmpfs", Dir: testkit.Mount(t, "tmpfs", 256<<20)})
	for _, c := range []struct {
		operation, call, action string
		check                   func(*trial) error
	}{
		{"verify", "open", "EIO", (*trial).failsWell},             // was told as a lost hard link
		{"verify", "stat", "EACCES", (*trial).failsWell},          // was told as a shard that was removed
		{"verify", "cachestat", "ENOMEM", (*trial).failsWell},     // was told as damage
		{"register long", "read", "zero", (*trial).endsWithout},   // users were forgotten
		{"remove unknown", "unlink", "EPERM", (*trial).failsWell}, // was told as "not a directory"
		{"remove orphan", "read", "EMFILE", (*trial).failsWell},   // was told as a damaged manifest
	} {
		op := operationNamed(c.operation)
		_, of := kindsOf(s.base(op, 1))
		for n := 1; n <= of[c.call]; n++ {
			s.each(op, fault{action: c.action, at: n, only: c.call}, 1, c.check)
		}
	}
	s.group.Wait()
}

// A file of a stage that was cloned, and then cannot be opened, is made again whole: it
// was taken for cloned all the same.
func TestClonedFileThatCannotBeOpened(t *testing.T) {
	s := newSweep(t, testkit.FS{Name: "btrfs", Dir: testkit.Mount(t, "btrfs", 256<<20)})
	op, opens, tried := operationNamed("resume early"), 0, 0
	for _, c := range s.base(op, 1) {
		if c.op != "open" {
			continue
		}
		opens++
		if strings.Contains(c.path, "/"+shardName+"/stage/") {
			tried++
			s.each(op, fault{action: "EACCES", at: opens, only: "open"}, 1, (*trial).failsWell)
		}
	}
	s.group.Wait()
	if tried < 10 {
		t.Errorf("only %d calls open what is in the stage", tried)
	}
}

// What cannot be read of a complete stage, when it is held against its manifest,
// is an error and no damage: the stage is kept.
func TestStageThatCannotBeRead(t *testing.T) {
	s := newSweep(t, testkit.FS{Name: "tmpfs", Dir: testkit.Mount(t, "tmpfs", 256<<20)})
	op := operation{name: "copy tiny", source: "tiny", mode: "-c", id: "a", after: []string{"a"}, there: true}
	calls, tried := s.base(&op, 1), 0
	manifest := slices.IndexFunc(calls, func(c logged) bool { return c.op == "open" && filepath.Base(c.path) == "manifest.new" })
	for n := manifest; n < len(calls) && calls[n].op != "rename"; n++ {
		if inStage := strings.Contains(calls[n].path, "/"+shardName+"/stage"); !inStage || calls[n].op == "fsync" {
			continue
		}
		tried++
		s.each(&op, fault{action: "EIO", at: n + 1}, 1, func(t *trial) error {
			if t.status != 1 || !strings.Contains(t.err, "what was copied is kept") {
				return fmt.Errorf("%v failed, and the stage is not kept", calls[n])
			}
			return t.failsWell()
		})
	}
	s.group.Wait()
	if tried < 10 {
		t.Errorf("only %d calls look at the stage: %v", tried, calls[manifest:])
	}
}

// expendable are the syncs and closes that may fail in a run that succeeds.
func (t *trial) expendable(c logged, after []logged) bool {
	again := slices.ContainsFunc(after, func(l logged) bool { return !l.acted && l.op == c.op && l.path == c.path })
	full := t.fault.action == "ENOSPC" || t.fault.action == "EDQUOT"
	base := filepath.Base(c.path)
	if strings.HasPrefix(base, "verified.new.") || strings.HasPrefix(base, "damaged.new.") { // a record, for --list; that it failed is a warning
		return t.op.mode == "--verify" || t.op.mode == "--repair"
	}
	switch base {
	case "journal", "plan", "probe.file": // of no use once the copy is published
		return c.op == "close"
	case "manifest.new", "sums.xxh64.new": // opened once more to be read, and closed before
		return c.op == "close" && again
	case "ssd", ".shard_to_ssd", shardName, "lockdir.new": // room is made, and all done again
		told := func(as string) bool { return strings.Contains(t.err, "could not be deleted"+as+": "+c.op+" "+c.path) }
		return full && again || told("") || told(", the next call will") // with -c, with --repair
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

// Short transfers and interrupted calls are no failure, all through a run.
func TestShortAndInterruptedEverywhere(t *testing.T) {
	rounds(t, 0.05, func(t *testing.T, r *round) {
		s := newSweep(t, sweepFS(t, r))
		for i := range operations {
			op := &operations[i]
			for _, f := range []fault{{action: "short", at: 1, step: 1}, {action: "EINTR", at: 1, step: 2}} {
				s.each(op, f, []int{1, 4}[r.IntN(2)], (*trial).undisturbedBy)
			}
		}
		s.group.Wait()
	})
}

func (t *trial) undisturbedBy() error {
	count(t.fault.action+" at every call", 1)
	if len(acted(t.calls)) == 0 {
		return errors.New("the fault did not act")
	}
	return t.undisturbed()
}

// A transfer that moves nothing is the end of the file, never a reason to go on
// for ever.
func TestNoProgress(t *testing.T) {
	rounds(t, 0.05, func(t *testing.T, r *round) {
		s := newSweep(t, sweepFS(t, r))
		for i := range operations {
			op := &operations[i]
			_, of := kindsOf(s.base(op, 1))
			for _, kind := range []string{"read", "write", "copy_file_range", "submit reads of", "wait for reads of", "read at once"} {
				for n := 1; n <= of[kind]; n++ {
					if f := (fault{action: "zero", at: n, only: kind, step: r.IntN(2)}); r.full || r.IntN(of[kind]) == 0 {
						s.each(op, f, 1, (*trial).endsWithout)
					}
				}
			}
		}
		s.group.Wait()
	})
}

// endsWithout is what must hold of a run with calls that moved nothing.
func (t *trial) endsWithout() error {
	count("transfer of nothing", 1)
	hit := acted(t.calls)
	if len(hit) == 0 {
		return t.undisturbed()
	}
	if err := errors.Join(t.ended(), t.op.sound(t.h, t.s.source("foreign"))); err != nil {
		return err
	}
	if t.status == 0 {
		if err := t.done(); err != nil {
			return err
		}
	} else if !strings.Contains(t.err, "ERROR:") {
		return errors.New("it failed without a word")
	}
	return t.op.recovers(t.h)
}

// Each error of the tables, at the first call and at a later one.
func TestTablesOfErrors(t *testing.T) {
	rounds(t, 0.02, func(t *testing.T, r *round) {
		s := newSweep(t, sweepFS(t, r))
		for _, table := range tables {
			op := operationNamed(table.operation)
			_, of := kindsOf(s.base(op, 1))
			each := func(list []unix.Errno, check func(*trial) error) {
				for _, errno := range list {
					for _, at := range []int{1, 1 + r.IntN(of[table.call])} {
						s.each(op, fault{action: unix.ErrnoName(errno), at: at, only: table.call}, 1, check)
					}
				}
			}
			each(table.goesOn, (*trial).undisturbedBy)
			each(table.goesOn1, (*trial).goesOnUnlessBegun)
			each(table.final, (*trial).mustFail)
		}
		s.group.Wait()
	})
}

func operationNamed(name string) *operation {
	return &operations[slices.IndexFunc(operations, func(op operation) bool { return op.name == name })]
}

// goesOnUnlessBegun looks at the calls before the one that was hit, all of one
// kind: another for the same file has copied some of it.
func (t *trial) goesOnUnlessBegun() error {
	for i, c := range t.calls {
		if c.acted && slices.ContainsFunc(t.calls[:i], func(l logged) bool { return l.path == c.path }) {
			return t.mustFail()
		}
	}
	return t.undisturbedBy()
}

func (t *trial) mustFail() error {
	if t.status == 0 {
		return errors.New("it must not go on after this, and did")
	}
	if _, err := os.Lstat(t.h.published()); err == nil {
		return errors.New("published after an error that is final")
	}
	return t.failsWell()
}
