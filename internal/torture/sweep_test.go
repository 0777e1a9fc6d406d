package torture

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"shard_to_ssd/internal/testkit"
)

// A fault is an instruction to the layer of internal/sys.
type fault struct {
	action string
	at     int    // the number of the call, from 1
	step   int    // and every step-th call after it; 0: no other call
	only   string // only these calls are counted; "": all
}

func (f fault) String() string {
	text := fmt.Sprintf("SHARD_TO_SSD_FAULT=%s@%d", f.action, f.at)
	if f.step > 0 {
		text += fmt.Sprintf("/%d", f.step)
	}
	if f.only != "" {
		text += fmt.Sprintf(" SHARD_TO_SSD_FAULT_ONLY='%s'", f.only)
	}
	return text
}

// environ returns the environment of a process that gets the fault.
func (f fault) environ(log string) []string {
	env := os.Environ()
	if f.action != "" {
		at := fmt.Sprintf("%s@%d", f.action, f.at)
		if f.step > 0 {
			at += fmt.Sprintf("/%d", f.step)
		}
		env = append(env, "SHARD_TO_SSD_FAULT="+at, "SHARD_TO_SSD_FAULT_ONLY="+f.only)
	}
	if log != "" {
		env = append(env, "SHARD_TO_SSD_FAULT_LOG="+log)
	}
	return env
}

// logged is a system call in the log of the layer.
type logged struct {
	op, path string
	acted    bool
}

func (l logged) String() string { return l.op + " " + l.path }

func readLog(path string) (calls []logged, err error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(fields) < 3 {
			return nil, fmt.Errorf("%s has the line %q", path, line)
		}
		where, err := strconv.Unquote(fields[2])
		if err != nil {
			return nil, fmt.Errorf("%s has the line %q: %w", path, line, err)
		}
		calls = append(calls, logged{fields[1], where, len(fields) > 3})
	}
	return calls, err
}

// actedCalls returns the calls that the fault hit.
func actedCalls(calls []logged) (hit []logged) {
	for _, c := range calls {
		if c.acted {
			hit = append(hit, c)
		}
	}
	return hit
}

// A sweep runs operations with faults on hosts of one file system.
type sweep struct {
	t      *testing.T
	fs     testkit.FS
	bin    string
	logs   string
	hosts  atomic.Int64
	failed atomic.Int64

	group  *sync.WaitGroup
	places chan struct{}
}

// maxViolations is the number of failures that a sweep reports. With more, a fault in
// all operations would hide a fault in one. A long run stops at the first.
func maxViolations() int64 {
	if *torture > 0 {
		return 1
	}
	return 6
}

func newSweep(t *testing.T, fs testkit.FS) *sweep {
	t.Helper()
	s := &sweep{t: t, fs: fs, bin: faulty(t), logs: t.TempDir(), group: &sync.WaitGroup{}, places: make(chan struct{}, runtime.NumCPU())}
	for name, steps := range sources {
		if err := errors.Join(os.MkdirAll(filepath.Dir(s.sourcePath(name)), 0o755), plantTree(s.sourcePath(name), steps)); err != nil {
			t.Fatal(err)
		}
	}
	testkit.Apply(t, filepath.Join(fs.Dir, "sources"), testkit.File("file/"+shardName, 5<<20, 10))
	return s
}

func (s *sweep) sourcePath(name string) string {
	return filepath.Join(s.fs.Dir, "sources", name, shardName)
}

// prepareHost makes a host in the state before the operation.
func (s *sweep) prepareHost(op *operation) (*host, error) {
	dir := filepath.Join(s.fs.Dir, fmt.Sprint("host", s.hosts.Add(1)))
	h := &host{s.bin, s.sourcePath(op.source), filepath.Join(dir, "locks"), filepath.Join(dir, "ssd"), s.fs.Name == "xfs"}
	err := errors.Join(os.MkdirAll(h.locks, 0o755), os.MkdirAll(h.ssd, 0o755))
	if err == nil && op.prepare != nil {
		err = op.prepare(h)
	}
	return h, err
}

// trial is one run of an operation with a fault.
type trial struct {
	s     *sweep
	op    *operation
	h     *host
	fault fault
	jobs  int
	outcome
	calls []logged
}

// limit is the longest time of a run. The slowest runs take a second.
const limit = time.Minute

// statusHung is the status of a run that did not end in time.
const statusHung = -2

// tryFault runs the operation on a new host, which removeHost removes.
func (s *sweep) tryFault(op *operation, f fault, jobs int) (*trial, error) {
	t := &trial{s: s, op: op, fault: f, jobs: jobs}
	var err error
	if t.h, err = s.prepareHost(op); err == nil && op.cold {
		err = testkit.EvictTree(t.h.source)
	}
	if err != nil {
		return t, err
	}
	mode, id, flags := op.commandLine(t.h, jobs)
	log := filepath.Join(s.logs, filepath.Base(filepath.Dir(t.h.ssd)))
	c := t.h.command(mode, id, flags...)
	c.Env = f.environ(log)
	if t.outcome, err = runWithin(limit, c); err != nil {
		return t, err
	}
	if t.calls, err = readLog(log); err == nil {
		err = os.Remove(log)
	}
	return t, err
}

func (t *trial) removeHost() error { return os.RemoveAll(filepath.Dir(t.h.ssd)) }

// runWithin runs a command with a time limit. A process that takes longer gets SIGQUIT
// and prints its stacks.
func runWithin(limit time.Duration, c *exec.Cmd) (outcome, error) {
	var out, err bytes.Buffer
	c.Stdout, c.Stderr = &out, &err
	if failed := c.Start(); failed != nil {
		return outcome{}, failed
	}
	var hung atomic.Bool
	timer := time.AfterFunc(limit, func() {
		hung.Store(true)
		_ = c.Process.Signal(syscall.SIGQUIT) // it may have just ended
	})
	defer timer.Stop()
	_ = c.Wait() // status returns the result
	o := outcome{statusOf(c.ProcessState), out.String(), err.String()}
	if hung.Load() {
		o.status = statusHung
	}
	return o, nil
}

// startTrial runs a trial and its check in parallel with others.
func (s *sweep) startTrial(op *operation, f fault, jobs int, check func(*trial) error) {
	if s.failed.Load() >= maxViolations() {
		return
	}
	s.places <- struct{}{}
	s.group.Go(func() {
		defer func() { <-s.places }()
		s.runTrial(op, f, jobs, check)
	})
}

// runTrial runs a trial and its check.
func (s *sweep) runTrial(op *operation, f fault, jobs int, check func(*trial) error) *trial {
	t, err := s.tryFault(op, f, jobs)
	if err == nil {
		err = check(t)
	}
	if err != nil {
		s.failed.Add(1)
		s.t.Errorf("%v\n%v", err, t)
		return t
	}
	if err := t.removeHost(); err != nil {
		s.t.Error(err)
	}
	return t
}

// bases are the calls of operations without faults, by file system and operation.
var bases = struct {
	mu sync.Mutex
	of map[string][]logged
}{of: map[string][]logged{}}

// baseCalls returns the calls of the operation without a fault. With a fault there are
// about as many.
func (s *sweep) baseCalls(op *operation, jobs int) []logged {
	bases.mu.Lock()
	defer bases.mu.Unlock()
	key := fmt.Sprint(s.fs.Name, op.name, jobs)
	if len(bases.of[key]) == 0 {
		bases.of[key] = s.runTrial(op, fault{}, jobs, (*trial).checkUndisturbed).calls
	}
	if len(bases.of[key]) == 0 {
		s.t.Fatalf("operation %q has no calls", op.name)
	}
	return bases.of[key]
}

// countKinds counts the calls of each kind. kinds is in the order of their first calls.
func countKinds(calls []logged) (kinds []string, of map[string]int) {
	of = map[string]int{}
	for _, c := range calls {
		if of[c.op]++; of[c.op] == 1 {
			kinds = append(kinds, c.op)
		}
	}
	return kinds, of
}

// String returns everything that is needed to repeat the trial.
func (t *trial) String() string {
	mode, id, flags := t.op.commandLine(t.h, t.jobs)
	last := t.calls[max(len(t.calls)-15, 0):]
	return fmt.Sprintf("operation %q on %s\n%v %q\n%v\nlast calls: %v\nhit by the fault: %v\nfiles on the host:\n%s",
		t.op.name, t.s.fs.Name, t.fault, t.h.command(mode, id, flags...).Args, t.outcome, last, actedCalls(t.calls), t.h.listFiles())
}
