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

// witness runs processes on the shards of one host, and notes what all of them, and
// whoever looks at what they do, have seen.
type witness struct {
	shards []*host // with one lock dir and one SSD dir
	old    string  // the older script, "" without it

	began   time.Time
	started atomic.Int64
	mu      sync.Mutex
	history []history // of each shard
}

func watch(shards ...*host) *witness {
	return &witness{shards: shards, began: time.Now(), history: make([]history, len(shards))}
}

// task is one process to be.
type task struct {
	shard  int
	do, id string // as in an event, or --list, --verify
	flags  []string
	fault  string         // as in SHARD_TO_SSD_FAULT, or with "op:" before it for calls of op only
	signal syscall.Signal // 0: none
	after  time.Duration
}

func (k task) String() string {
	return fmt.Sprintf("%s %s %s %v", k.do, k.id, strings.Join(k.flags, " "), k.fault)
}

// process is one that runs.
type process struct {
	task
	event
	*exec.Cmd
	out, err bytes.Buffer
	hung     *time.Timer

	waits  chan struct{} // closed when it says that it waits for the lock
	once   sync.Once     // closes it
	halted chan struct{} // closed when it has stopped
	ended  chan struct{} // closed when it has ended, and result is there
	result outcome
	failed error
}

// Write takes what the process says on standard error.
func (p *process) Write(text []byte) (int, error) {
	if bytes.Contains(text, []byte("Waiting for the lock")) {
		p.once.Do(func() { close(p.waits) }) // a second time for the state dir's
	}
	return p.err.Write(text)
}

// tooLong is when a process is taken to hang, and killed.
const tooLong = 30 * time.Second

// now is the monotonic clock.
func (w *witness) now() time.Duration { return time.Since(w.began) }

func (w *witness) note(shard int, e event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.history[shard] = append(w.history[shard], e)
}

// command is the process of a task, not begun.
func (w *witness) command(k task) *exec.Cmd {
	h := w.shards[k.shard]
	if do, old := strings.CutPrefix(k.do, "old "); old {
		return exec.Command("python3", "-IS", w.old, do, "-l", h.locks, "-s", h.ssd, "-i", k.id, "--check-inode", h.source)
	}
	return h.command(k.do, k.id, append(k.flags, "--json")...)
}

func (w *witness) start(k task) (*process, error) {
	w.started.Add(1)
	p := &process{task: k, Cmd: w.command(k), waits: make(chan struct{}), halted: make(chan struct{}), ended: make(chan struct{})}
	p.Stdout, p.Stderr = &p.out, p
	p.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // one that has stopped itself must not stay
	if k.fault != "" {
		only, fault, cut := strings.Cut(k.fault, ":")
		if !cut {
			only, fault = "", k.fault
		}
		p.Env = append(os.Environ(), "SHARD_TO_SSD_FAULT_ONLY="+only, "SHARD_TO_SSD_FAULT="+fault)
	}
	p.event = event{do: k.do, id: k.id, call: w.now()}
	if err := p.Start(); err != nil {
		return nil, err
	}
	p.hung = time.AfterFunc(tooLong, func() { p.Process.Kill() })
	if strings.Contains(k.fault, "stop") {
		go p.watchForStop()
	}
	go func() {
		defer close(p.ended)
		p.result, p.failed = w.end(p)
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

// settled waits until the process goes no further: it has stopped, or ended, or
// waits for the lock.
func (p *process) settled() {
	select {
	case <-p.halted:
	case <-p.waits:
	case <-p.ended:
	}
}

// goOn lets a stopped process go on, to its end or until it waits for the lock.
func (p *process) goOn() error {
	if err := p.Process.Signal(syscall.SIGCONT); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-p.waits:
	case <-p.ended:
	}
	return nil
}

// end waits for the process, notes what it did, and says whether it ended as it may.
func (w *witness) end(p *process) (o outcome, err error) {
	if p.signal != 0 {
		timer := time.AfterFunc(p.after, func() { p.Process.Signal(p.signal) })
		defer timer.Stop()
	}
	failed := p.Wait()
	p.hung.Stop()
	e := p.event
	e.ret = w.now()
	var exit *exec.ExitError
	if failed != nil && !errors.As(failed, &exit) {
		return o, failed
	}
	o = outcome{status(p.ProcessState), p.out.String(), p.err.String()}
	e.status = o.status
	if why := w.wrong(p.task, o); why != "" {
		return o, fmt.Errorf("%s: %q: %v", why, p.Args, o)
	}
	if (p.task.do == "--list" || p.task.do == "--verify") || o.status == 5 {
		return o, nil // has no effect, and nothing follows from it
	}
	if o.status == 0 && !e.old() {
		var result struct{ Outcome string }
		if err := json.Unmarshal(p.out.Bytes(), &result); err != nil {
			return o, fmt.Errorf("%q: %w: %v", p.Args, err, o)
		}
		e.outcome = result.Outcome
	}
	w.note(p.shard, e)
	return o, nil
}

// perform runs a task to its end.
func (w *witness) perform(k task) (o outcome, err error) {
	p, err := w.start(k)
	if err != nil {
		return o, err
	}
	<-p.ended
	return p.result, p.failed
}

// wrong says why a process may not end like this.
func (w *witness) wrong(k task, o outcome) string {
	switch {
	case o.status == 0, k.signal != 0 && o.status == 128+int(k.signal):
		return ""
	case o.status == 5 && len(k.flags) > 0, o.status == 137 && strings.Contains(k.fault, "kill"):
		return ""
	case k.do == "old -r" && o.status == 1 && strings.Contains(o.err, "FileNotFoundError"):
		return "" // it was not there to be removed; nothing was changed
	case k.do == "--verify" && o.status == 1: // removed, or not yet there
		return ""
	case k.do == "--verify":
		return "a false alarm"
	}
	return "failed for no reason"
}

func (w *witness) stat(shard int) {
	e := event{do: "stat", call: w.now()}
	_, err := os.Lstat(w.shards[shard].published())
	e.there, e.ret = err == nil, w.now()
	w.note(shard, e)
}

// read notes what is in a user file. One that is unlinked by now says nothing of
// the one that there is.
func (w *witness) read(shard int) error {
	e := event{do: "read", call: w.now()}
	file, err := os.Open(w.shards[shard].userFile())
	if errors.Is(err, os.ErrNotExist) {
		e.ret = w.now()
		w.note(shard, e)
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
	e.ret = w.now()
	w.note(shard, e)
	return nil
}

func (w *witness) explain() error {
	var all error
	for i, h := range w.history {
		count("processes, and looks at what they do, put in order", len(h))
		if err := h.explain(); err != nil {
			all = errors.Join(all, fmt.Errorf("shard %s: %w", w.shards[i].name(), err))
		}
	}
	count("processes at once on a few shards", int(w.started.Load()))
	return all
}
