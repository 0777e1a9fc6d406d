package peers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"shard_to_ssd/internal/errs"
)

// series has the samples of a lane. A contender that failed is not run again.
type series struct {
	Samples []sample `json:"samples"`
	Failed  string   `json:"failed,omitempty"`
}

// runner runs turns. It adds their samples to results, by the keys of the lanes.
type runner struct {
	sizes   sizes
	dir     string // images, mount points, temporary files of contenders
	sources *sources
	ssd     *disk // of this turn or of the last one; nil: none yet
	results map[string]*series
	log     func(format string, args ...any)

	keepCaches bool // does not drop the host's caches
	cached     bool // a disk had no direct I/O
}

// runTurns runs all turns, and calls done after each.
func (r *runner) runTurns(ctx context.Context, turns []turn, done func() error) (err error) {
	defer func() {
		err = errs.Join(err, r.sources.keepOnly(nil), r.detachSSD())
	}()
	for i, t := range turns {
		if err := r.runTurn(ctx, t); err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
		if err := r.sources.keepOnly(workloadsOnDisk(turns[i+1:])); err != nil {
			return err
		}
		if err := done(); err != nil {
			return err
		}
	}
	return nil
}

func (r *runner) detachSSD() error {
	if r.ssd == nil {
		return nil
	}
	d := r.ssd
	r.ssd = nil
	return d.detach()
}

// runTurn runs its lanes one after the other, once for each sample.
func (r *runner) runTurn(ctx context.Context, t turn) (err error) {
	if size := t.diskSize(r.sizes); r.ssd == nil || r.ssd.size != size {
		if err := r.detachSSD(); err != nil {
			return err
		}
		if r.ssd, err = newDisk(ctx, r.dir, size); err != nil {
			return err
		}
		r.cached = r.cached || !r.ssd.direct
	}
	m := mounts{runner: r, mount: filepath.Join(r.dir, "ssd")}
	defer func() { err = errs.Join(err, m.unmountAll()) }()
	for n := range t.samples {
		for _, l := range t.lanes {
			if err := r.runLane(ctx, &m, l, progress{n + 1, t.samples}); err != nil {
				return err
			}
		}
	}
	return nil
}

// progress is the number of a sample, and how many samples there are.
type progress struct{ sample, of int }

func (p progress) isLast() bool { return p.sample == p.of }

// runLane takes one sample. The failure of a contender is a result; an error means that
// the measurement cannot continue.
func (r *runner) runLane(ctx context.Context, m *mounts, l lane, at progress) error {
	all := r.results[l.resultKey()]
	if all == nil {
		all = &series{}
		r.results[l.resultKey()] = all
	}
	if all.Failed != "" {
		return nil
	}
	p, fresh, err := m.prepareLane(ctx, l)
	if err != nil {
		return err
	}
	s, err := r.takeSample(ctx, l, p, sampleSteps{makeReady: fresh, check: at.isLast()})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		all.Failed = strings.ReplaceAll(err.Error(), r.dir, "DIR") // the directory differs in every run
		r.log("%s: %s failed: %s", l.turnName(), l.contenderName(), all.Failed)
		return nil
	}
	all.Samples = append(all.Samples, s)
	if at.of <= 20 || at.isLast() {
		r.log("%s, %d/%d: %s: %.3f s, %.2f CPU-s", l.turnName(), at.sample, at.of, l.contenderName(), s.Wall, s.CPU)
	}
	return nil
}

// sampleSteps are the steps that only some samples have.
type sampleSteps struct {
	makeReady bool // run the setting's command in the fresh file system
	check     bool // check the result
}

// takeSample prepares, drops caches, measures, checks and cleans up.
func (r *runner) takeSample(ctx context.Context, l lane, p place, steps sampleSteps) (sample, error) {
	c := l.contender
	if steps.makeReady {
		if err := p.runShell(ctx, l.setting.ready); err != nil {
			return sample{}, err
		}
	}
	if err := p.runShell(ctx, c.prepare); err != nil {
		return sample{}, fmt.Errorf("prepare: %w", err)
	}
	if !l.setting.warm && !r.keepCaches {
		if err := dropCaches(); err != nil {
			return sample{}, err
		}
	}
	warmPrograms(ctx, append(c.tools, "bash", "sync", p.build.Path))
	s, err := c.measureCommand(ctx, p)
	if err != nil {
		return sample{}, err
	}
	if steps.check {
		if err := p.runShell(ctx, c.check); err != nil {
			return sample{}, fmt.Errorf("check the result: %w", err)
		}
	}
	if err := p.runShell(ctx, c.after); err != nil {
		return sample{}, fmt.Errorf("clean up: %w", err)
	}
	return s, nil
}

// measureCommand runs the command with the functions around it.
func (c contender) measureCommand(ctx context.Context, p place) (sample, error) {
	finish := func(*sample) error { return nil }
	if c.around != nil {
		var err error
		if finish, err = c.around(ctx, p); err != nil {
			return sample{}, err
		}
	}
	s, stdout, err := c.timeCommand(ctx, p)
	finishErr := finish(&s)
	switch {
	case err != nil:
		return s, err
	case finishErr != nil:
		return s, finishErr
	case c.parse != nil:
		return s, c.parse(p, stdout, &s)
	}
	return s, nil
}

// timeCommand runs the command. The time ends when the command, and each process that it
// waits for, has ended.
func (c contender) timeCommand(ctx context.Context, p place) (sample, []byte, error) {
	cmd, stdout, stderr := p.newCommand(ctx, c)
	start := time.Now()
	err := cmd.Run()
	s := sample{Wall: time.Since(start).Seconds()}
	if err != nil {
		return s, nil, fmt.Errorf("%s: %w: %s", c.name, err, lastOutput(stderr.String()))
	}
	usage := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	s.CPU = cmd.ProcessState.UserTime().Seconds() + cmd.ProcessState.SystemTime().Seconds()
	s.RSS = usage.Maxrss * kib
	return s, stdout.Bytes(), nil
}

// lastOutput returns the end of a program's output in one line.
func lastOutput(text string) string {
	text = strings.TrimSpace(text)
	if len(text) > 500 {
		text = "… " + text[len(text)-500:]
	}
	return strings.ReplaceAll(text, "\n", " | ")
}

// newCommand returns the contender's command. It runs in a process group of its own,
// which is killed when the context ends.
func (p place) newCommand(ctx context.Context, c contender) (cmd *exec.Cmd, stdout, stderr *bytes.Buffer) {
	if c.bare {
		args := strings.Fields(c.command)
		for i := range args {
			args[i] = os.Expand(args[i], func(name string) string { return p.variables()[name] })
		}
		cmd = exec.CommandContext(ctx, args[0], args[1:]...)
	} else {
		cmd = exec.CommandContext(ctx, "bash", "-e", "-o", "pipefail", "-c", c.command)
	}
	cmd.Env = os.Environ()
	for name, value := range p.variables() {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	// While the command runs, the mounts stay: it must end with this process.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 10 * time.Second // for a process that left the group and has the output open
	stdout, stderr = new(bytes.Buffer), new(bytes.Buffer)
	cmd.Stdout, cmd.Stderr = stdout, stderr
	return cmd, stdout, stderr
}

// runShell runs a command that is not measured. An empty command does nothing.
func (p place) runShell(ctx context.Context, command string) error {
	if command == "" {
		return nil
	}
	cmd, stdout, stderr := p.newCommand(ctx, contender{command: command})
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s", command, err, lastOutput(stdout.String()+stderr.String()))
	}
	return nil
}

// warmPrograms brings programs and their libraries into the page cache. The size of a
// program must not count, and on a real host it has run before.
func warmPrograms(ctx context.Context, programs []string) {
	for _, name := range programs {
		_ = exec.CommandContext(ctx, name, "--version").Run() // some fail without such an option, but are loaded
	}
}

// mounts are the file systems that the lanes of a turn use.
type mounts struct {
	runner  *runner
	mount   string // of the SSD
	mounted bool
	slow    *fuse.Server
	slowDir string
}

// prepareLane mounts the source and the SSD. The SSD is fresh, except where the setting
// keeps it for all samples.
func (m *mounts) prepareLane(ctx context.Context, l lane) (p place, fresh bool, err error) {
	p = place{mount: m.mount, temp: filepath.Join(m.runner.dir, "temp"), build: l.build}
	if p.source, err = m.sourceOf(ctx, l); err != nil {
		return p, false, err
	}
	if l.setting.keep && m.mounted {
		return p, false, nil
	}
	if err := m.unmountSSD(); err != nil {
		return p, false, err
	}
	if err := os.RemoveAll(p.temp); err != nil {
		return p, false, err
	}
	if err := m.mountSSD(ctx, l); err != nil {
		return p, false, err
	}
	return p, true, p.makeDirs()
}

func (m *mounts) mountSSD(ctx context.Context, l lane) error {
	f := fileSystemOf(l.kind, m.runner.sizes)
	if err := m.runner.ssd.makeFileSystem(ctx, f, l.workload.fileCount()); err != nil {
		return err
	}
	err := m.runner.ssd.mountAt(m.mount, f.name, f.mount, 0)
	m.mounted = err == nil
	return err
}

func (m *mounts) sourceOf(ctx context.Context, l lane) (string, error) {
	if !l.setting.slow {
		return m.runner.sources.shardOf(ctx, l.workload)
	}
	if m.slow == nil {
		m.slowDir = filepath.Join(m.runner.dir, "slow")
		if err := os.Mkdir(m.slowDir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return "", err
		}
		var err error
		if m.slow, err = mountSlow(m.slowDir, l.workload, slowRate); err != nil {
			return "", fmt.Errorf("mount the slow source: %w", err)
		}
	}
	return filepath.Join(m.slowDir, "shard"), nil
}

func (m *mounts) unmountSSD() error {
	if !m.mounted {
		return nil
	}
	m.mounted = false
	return unmountBusy(m.mount)
}

// unmountAll unmounts the SSD and the slow source.
func (m *mounts) unmountAll() error {
	err := m.unmountSSD()
	if m.slow != nil {
		err = errs.Join(err, m.slow.Unmount())
		m.slow = nil
	}
	return err
}
