package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"shard_to_ssd/internal/errs"
	"strings"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// series are the samples of a lane. A contender that failed is not run again.
type series struct {
	Samples []sample `json:"samples"`
	Failed  string   `json:"failed,omitempty"`
}

// bench runs turns. What it measured is in results, by the lanes' keys.
type bench struct {
	sizes   sizes
	dir     string // images, mount points, what contenders need besides
	sources *sources
	ssd     *disk // of the turn, or of the one before
	results map[string]*series
	log     func(format string, args ...any)

	keepCaches bool // of the host
	cached     bool // a disk had no direct I/O
}

// run is all turns; done is called after each.
func (b *bench) run(ctx context.Context, turns []turn, done func() error) (err error) {
	defer func() {
		err = errs.Join(err, b.sources.keep(nil), b.closeSSD())
	}()
	for i, t := range turns {
		if err := b.turn(ctx, t); err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
		if err := b.sources.keep(sourcesOf(turns[i+1:])); err != nil {
			return err
		}
		if err := done(); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) closeSSD() error {
	if b.ssd == nil {
		return nil
	}
	d := b.ssd
	b.ssd = nil
	return d.close()
}

// turn runs its lanes, one after the other, as often as there are samples.
func (b *bench) turn(ctx context.Context, t turn) (err error) {
	if size := t.disk(b.sizes); b.ssd == nil || b.ssd.size != size {
		if err := b.closeSSD(); err != nil {
			return err
		}
		if b.ssd, err = newDisk(ctx, b.dir, size); err != nil {
			return err
		}
		b.cached = b.cached || !b.ssd.direct
	}
	ground := ground{bench: b, mount: filepath.Join(b.dir, "ssd")}
	defer func() { err = errs.Join(err, ground.leave()) }()
	for n := range t.samples {
		for _, l := range t.lanes {
			if err := b.lane(ctx, &ground, l, n, t.samples); err != nil {
				return err
			}
		}
	}
	return nil
}

// lane takes one sample. A contender's failure goes into the results; the error is
// for what nothing can be measured without.
func (b *bench) lane(ctx context.Context, g *ground, l lane, n, samples int) error {
	all := b.results[l.key()]
	if all == nil {
		all = &series{}
		b.results[l.key()] = all
	}
	if all.Failed != "" {
		return nil
	}
	p, fresh, err := g.enter(ctx, l)
	if err != nil {
		return err
	}
	var s sample
	if fresh {
		err = p.shell(ctx, l.setting.ready)
	}
	if err == nil {
		s, err = b.sample(ctx, l, p, n == samples-1)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		all.Failed = strings.ReplaceAll(err.Error(), b.dir, "DIR") // which is another in every run
		b.log("%s: %s failed: %s", l.turn(), l.name(), all.Failed)
		return nil
	}
	all.Samples = append(all.Samples, s)
	if samples <= 20 || n == samples-1 {
		b.log("%s, %d/%d: %s: %.3f s, %.2f CPU-s", l.turn(), n+1, samples, l.name(), s.Wall, s.CPU)
	}
	return nil
}

// sample prepares, drops caches, measures, and at the end checks.
func (b *bench) sample(ctx context.Context, l lane, p place, last bool) (sample, error) {
	c := l.contender
	if err := p.shell(ctx, c.prepare); err != nil {
		return sample{}, fmt.Errorf("prepare: %w", err)
	}
	if !l.setting.warm && !b.keepCaches {
		if err := dropCaches(); err != nil {
			return sample{}, err
		}
	}
	warm(ctx, append(c.tools, "bash", "sync", p.build.path))
	s, err := c.measure(ctx, p)
	if err != nil {
		return sample{}, err
	}
	if last {
		if err := p.shell(ctx, c.check); err != nil {
			return sample{}, fmt.Errorf("check of the result: %w", err)
		}
	}
	if err := p.shell(ctx, c.after); err != nil {
		return sample{}, fmt.Errorf("afterwards: %w", err)
	}
	return s, nil
}

// measure runs the command. Its clock runs from before it is started until it and
// all that it waits for are gone.
func (c contender) measure(ctx context.Context, p place) (sample, error) {
	finish := func(*sample) error { return nil }
	if c.around != nil {
		var err error
		if finish, err = c.around(ctx, p); err != nil {
			return sample{}, err
		}
	}
	cmd, stdout, stderr := p.command(ctx, c)
	start := time.Now()
	err := cmd.Run()
	s := sample{Wall: time.Since(start).Seconds()}
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", c.name, err, tail(stderr.String()))
	} else {
		usage := cmd.ProcessState.SysUsage().(*syscall.Rusage)
		s.CPU = cmd.ProcessState.UserTime().Seconds() + cmd.ProcessState.SystemTime().Seconds()
		s.RSS = usage.Maxrss * kib
	}
	if e := finish(&s); err == nil {
		err = e
	}
	if err == nil && c.read != nil {
		err = c.read(p, stdout.Bytes(), &s)
	}
	return s, err
}

// tail is the end of what a program said.
func tail(text string) string {
	text = strings.TrimSpace(text)
	if len(text) > 500 {
		text = "… " + text[len(text)-500:]
	}
	return strings.ReplaceAll(text, "\n", " | ")
}

// command is the contender's, in a process group of its own, all of which is killed
// when the context ends.
func (p place) command(ctx context.Context, c contender) (cmd *exec.Cmd, stdout, stderr *bytes.Buffer) {
	if c.bare {
		args := strings.Fields(c.command)
		for i := range args {
			args[i] = os.Expand(args[i], func(name string) string { return p.env()[name] })
		}
		cmd = exec.CommandContext(ctx, args[0], args[1:]...)
	} else {
		cmd = exec.CommandContext(ctx, "bash", "-e", "-o", "pipefail", "-c", c.command)
	}
	cmd.Env = os.Environ()
	for name, value := range p.env() {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL} // mounts stay as long as it does
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 10 * time.Second // for what has its output open and left the group
	stdout, stderr = new(bytes.Buffer), new(bytes.Buffer)
	cmd.Stdout, cmd.Stderr = stdout, stderr
	return cmd, stdout, stderr
}

// shell runs a command of the harness; without one it does nothing.
func (p place) shell(ctx context.Context, command string) error {
	if command == "" {
		return nil
	}
	cmd, stdout, stderr := p.command(ctx, contender{command: command})
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s", command, err, tail(stdout.String()+stderr.String()))
	}
	return nil
}

// warm brings programs and their libraries into the page cache: that a program is
// large shall not count, and on a host it has been run before.
func warm(ctx context.Context, programs []string) {
	for _, name := range programs {
		cmd := exec.CommandContext(ctx, name, "--version")
		_ = cmd.Run() // some know no --version, and are there then too
	}
}

// ground is the file systems under the feet of a turn's lanes.
type ground struct {
	bench   *bench
	mount   string // of the SSD
	mounted bool
	slow    *fuse.Server
	slowDir string
}

// enter makes the place of a lane: everything is fresh, unless it is to be kept.
func (g *ground) enter(ctx context.Context, l lane) (p place, fresh bool, err error) {
	p = place{mount: g.mount, temp: filepath.Join(g.bench.dir, "temp"), build: l.build}
	if p.source, err = g.source(ctx, l); err != nil {
		return p, false, err
	}
	if l.setting.keep && g.mounted {
		return p, false, nil
	}
	if err := g.unmountSSD(); err != nil {
		return p, false, err
	}
	if err := os.RemoveAll(p.temp); err != nil {
		return p, false, err
	}
	if err := g.mountSSD(ctx, l); err != nil {
		return p, false, err
	}
	return p, true, p.makeDirs()
}

func (g *ground) mountSSD(ctx context.Context, l lane) error {
	k := kindOf(l.kind, g.bench.sizes)
	if err := g.bench.ssd.format(ctx, k, l.workload.files()); err != nil {
		return err
	}
	err := g.bench.ssd.mount(g.mount, k.name, k.mount, 0)
	g.mounted = err == nil
	return err
}

func (g *ground) source(ctx context.Context, l lane) (string, error) {
	if !l.setting.slow {
		return g.bench.sources.get(ctx, l.workload)
	}
	if g.slow == nil {
		g.slowDir = filepath.Join(g.bench.dir, "slow")
		if err := os.Mkdir(g.slowDir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return "", err
		}
		var err error
		if g.slow, err = mountSlow(g.slowDir, l.workload, slowRate); err != nil {
			return "", fmt.Errorf("mount the slow source: %w", err)
		}
	}
	return filepath.Join(g.slowDir, "shard"), nil
}

func (g *ground) unmountSSD() error {
	if !g.mounted {
		return nil
	}
	g.mounted = false
	return unmount(g.mount)
}

// leave unmounts all.
func (g *ground) leave() error {
	err := g.unmountSSD()
	if g.slow != nil {
		err = errs.Join(err, g.slow.Unmount())
		g.slow = nil
	}
	return err
}
