package torture

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// witness runs processes on the shards of one host, and notes the results of all
// processes and of those that look at the shards without a lock.
type witness struct {
	shards []*host // they share a lock dir and an SSD dir
	old    string  // the older script; "": not used

	began   time.Time
	started atomic.Int64
	mu      sync.Mutex
	history []history // of each shard
}

func newWitness(shards ...*host) *witness {
	return &witness{shards: shards, began: time.Now(), history: make([]history, len(shards))}
}

// task is one process to run.
type task struct {
	shard  int
	do, id string // as in an event, or --list, --verify
	flags  []string
	fault  string         // as in SHARD_TO_SSD_FAULT; a prefix "op:" limits it to calls of op
	signal syscall.Signal // 0: none
	after  time.Duration
}

func (k task) String() string {
	return fmt.Sprintf("%s %s %s %v", k.do, k.id, strings.Join(k.flags, " "), k.fault)
}

// process is a running task.
type process struct {
	task
	event
	*exec.Cmd
	out, err bytes.Buffer
	hung     *time.Timer

	waits  chan struct{} // closed when it reports that it waits for the lock
	once   sync.Once     // closes it
	halted chan struct{} // closed when it has stopped
	ended  chan struct{} // closed when it has ended, and result is there
	result outcome
	failed error
}

// Write takes the standard error of the process.
func (p *process) Write(text []byte) (int, error) {
	if bytes.Contains(text, []byte("Waiting for the lock")) {
		p.once.Do(func() { close(p.waits) }) // the wait for the state dir is reported, too
	}
	return p.err.Write(text)
}

// tooLong is the time after which a process counts as hanging and is killed.
const tooLong = 30 * time.Second

// elapsed is the monotonic time.
func (w *witness) elapsed() time.Duration { return time.Since(w.began) }

func (w *witness) noteEvent(shard int, e event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.history[shard] = append(w.history[shard], e)
}

// command returns the command of a task. It is not started.
func (w *witness) command(k task) *exec.Cmd {
	h := w.shards[k.shard]
	if do, old := strings.CutPrefix(k.do, "old "); old {
		return exec.Command("python3", "-IS", w.old, do, "-l", h.locks, "-s", h.ssd, "-i", k.id, "--check-inode", h.source)
	}
	return h.command(k.do, k.id, append(k.flags, "--json")...)
}

func (w *witness) startProcess(k task) (*process, error) {
	w.started.Add(1)
	p := &process{task: k, Cmd: w.command(k), waits: make(chan struct{}), halted: make(chan struct{}), ended: make(chan struct{})}
	p.Stdout, p.Stderr = &p.out, p
	p.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // a stopped process must not outlive the test
	if k.fault != "" {
		only, fault, cut := strings.Cut(k.fault, ":")
		if !cut {
			only, fault = "", k.fault
		}
		p.Env = append(os.Environ(), "SHARD_TO_SSD_FAULT_ONLY="+only, "SHARD_TO_SSD_FAULT="+fault)
	}
	p.event = event{do: k.do, id: k.id, call: w.elapsed()}
	if err := p.Start(); err != nil {
		return nil, err
	}
	p.hung = time.AfterFunc(tooLong, func() { p.Process.Kill() })
	if strings.Contains(k.fault, "stop") {
		go p.watchForStop()
	}
	go func() {
		defer close(p.ended)
		p.result, p.failed = w.waitEnd(p)
	}()
	return p, nil
}

func (p *process) watchForStop() {
	const stopped = 5 // CLD_STOPPED
	for {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_PID, p.Process.Pid, &info, unix.WSTOPPED|unix.WEXITED|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			if err == nil && info.Code == stopped {
				close(p.halted)
			}
			return
		}
	}
}

// waitSettled waits until the process has stopped, has ended, or waits for the lock.
func (p *process) waitSettled() {
	select {
	case <-p.halted:
	case <-p.waits:
	case <-p.ended:
	}
}

// resume continues a stopped process, until it ends or waits for the lock.
func (p *process) resume() error {
	if err := p.Process.Signal(syscall.SIGCONT); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-p.waits:
	case <-p.ended:
	}
	return nil
}

// waitEnd waits for the process, notes its result, and reports an end that is not
// allowed.
func (w *witness) waitEnd(p *process) (o outcome, err error) {
	if p.signal != 0 {
		timer := time.AfterFunc(p.after, func() { p.Process.Signal(p.signal) })
		defer timer.Stop()
	}
	failed := p.Wait()
	p.hung.Stop()
	e := p.event
	e.ret = w.elapsed()
	var exit *exec.ExitError
	if failed != nil && !errors.As(failed, &exit) {
		return o, failed
	}
	o = outcome{statusOf(p.ProcessState), p.out.String(), p.err.String()}
	e.status = o.status
	if why := w.wrongEnd(p.task, o); why != "" {
		return o, fmt.Errorf("%s: %q: %v", why, p.Args, o)
	}
	if (p.task.do == "--list" || p.task.do == "--verify") || o.status == 5 {
		return o, nil // it has no effect and proves nothing
	}
	if o.status == 0 && !e.byOlderScript() {
		var result struct{ Outcome string }
		if err := json.Unmarshal(p.out.Bytes(), &result); err != nil {
			return o, fmt.Errorf("%q: %w: %v", p.Args, err, o)
		}
		e.outcome = result.Outcome
	}
	w.noteEvent(p.shard, e)
	return o, nil
}

// runTask runs a task and waits for its end.
func (w *witness) runTask(k task) (o outcome, err error) {
	p, err := w.startProcess(k)
	if err != nil {
		return o, err
	}
	<-p.ended
	return p.result, p.failed
}

// wrongEnd explains why a process must not end like this. It is empty for an allowed
// end.
func (w *witness) wrongEnd(k task, o outcome) string {
	switch {
	case o.status == 0, k.signal != 0 && o.status == 128+int(k.signal):
		return ""
	case o.status == 5 && len(k.flags) > 0, o.status == 137 && strings.Contains(k.fault, "kill"):
		return ""
	case k.do == "old -r" && o.status == 1 && strings.Contains(o.err, "FileNotFoundError"):
		return "" // there was nothing to remove
	case k.do == "--verify" && o.status == 1: // removed, or not yet published
		return ""
	case k.do == "--verify":
		return "a false alarm"
	}
	return "failed for no reason"
}

func (w *witness) statShard(shard int) {
	e := event{do: "stat", call: w.elapsed()}
	_, err := os.Lstat(w.shards[shard].published())
	e.there, e.ret = err == nil, w.elapsed()
	w.noteEvent(shard, e)
}

// readUserFile notes the content of a user file. If the file is unlinked by now, it
// proves nothing about the current one.
func (w *witness) readUserFile(shard int) error {
	e := event{do: "read", call: w.elapsed()}
	file, err := os.Open(w.shards[shard].userFile())
	if errors.Is(err, os.ErrNotExist) {
		e.ret = w.elapsed()
		w.noteEvent(shard, e)
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	buf := make([]byte, 4096) // in one call: the list is shorter
	n, err := file.Read(buf)
	if err != nil && err != io.EOF {
		return err
	}
	e.there, e.raw = true, string(buf[:n])
	s, err := file.Stat()
	if err != nil || s.Sys().(*syscall.Stat_t).Nlink == 0 {
		return err
	}
	e.ret = w.elapsed()
	w.noteEvent(shard, e)
	return nil
}

func (w *witness) explain() error {
	var all error
	for i, h := range w.history {
		count("processes and looks at them, put in order", len(h))
		if err := h.explain(); err != nil {
			all = errors.Join(all, fmt.Errorf("shard %s: %w", w.shards[i].name(), err))
		}
	}
	count("processes at once on a few shards", int(w.started.Load()))
	return all
}
