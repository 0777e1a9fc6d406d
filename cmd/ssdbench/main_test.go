package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"shard_to_ssd/bench"
	"shard_to_ssd/bench/example"
	"shard_to_ssd/copier"
	"shard_to_ssd/internal/process"
	"shard_to_ssd/internal/testkit"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"ssdbench": main})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata"})
}

// Every flag is in the help, and nothing else.
func TestHelpNamesEveryFlag(t *testing.T) {
	text := help()
	for _, flag := range []string{"target", "source", "profile", "size", "engines", "blocks", "jobs", "samples", "share", "pause", "seed",
		"hide-serial", "yes", "output", "format"} {
		if !strings.Contains(text, "--"+flag+" ") {
			t.Errorf("--%s is not in the help", flag)
		}
		if _, err := parseRun([]string{"--target=x", "--" + flag}); err != nil && strings.Contains(err.Error(), "unknown") {
			t.Error(err)
		}
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]int64{"1": 1, "500000": 500000, "4K": 4096, "4M": 4 << 20, "1.5GiB": 3 << 29, "800MB": 800e6} {
		var s size
		if err := s.Set(text); err != nil || int64(s) != want {
			t.Errorf("%s: %d, %v", text, s, err)
		}
	}
	for _, text := range []string{"", "0", "-1", "4KK"} {
		var s size
		if err := s.Set(text); err == nil {
			t.Errorf("%q was taken for %d", text, s)
		}
	}
}

// A signal ends a run wherever it is: status 128+n, nothing of it left on the SSD, and
// what was measured is written.
func TestSignalLeavesNothing(t *testing.T) {
	for _, one := range []struct {
		signal syscall.Signal
		at     string // in a line of the progress
		status int
	}{{syscall.SIGINT, "1 of ", 130}, {syscall.SIGTERM, " make workload ", 143}, {syscall.SIGINT, " copy huge", 130}, {syscall.SIGINT, " then write on and on", 130}} {
		dir := t.TempDir()
		out := filepath.Join(t.TempDir(), "result.json")
		cmd := exec.Command("ssdbench", "run", "--target", dir, "--size", "64M", "--samples", "1", "--share", "0.05", "--pause", "1ms", "--yes", "-o", out)
		stderr, err := cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(stderr)
		said, sent := "", false
		for lines.Scan() {
			said += lines.Text() + "\n"
			if !sent && strings.Contains(lines.Text(), one.at) {
				sent = true
				if err := cmd.Process.Signal(one.signal); err != nil {
					t.Fatal(err)
				}
			}
		}
		cmd.Wait() //nolint:errcheck // looked at as a status
		if status := cmd.ProcessState.ExitCode(); status != one.status {
			t.Errorf("%v: status %d, wanted %d:\n%s", one.signal, status, one.status, said)
		}
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("%v: left %v", one.signal, left)
		}
		if r, err := bench.Load(out); one.at != "1 of " && (err != nil || r.Complete) {
			t.Errorf("%v: result %v, complete %v", one.signal, err, r != nil && r.Complete)
		} else if one.at == " then write on and on" && (r.Sustained == nil || r.Sustained.Complete) {
			t.Errorf("%v: a long write that is taken for complete: %+v", one.signal, r.Sustained)
		}
	}
}

// Who is not root measures all the same, without what only root may do, and is told: the
// kernel does not say to others what of root's files is in the page cache.
func TestWithoutRoot(t *testing.T) {
	testkit.NeedRoot(t)
	const nobody = 65534
	dir, err := os.MkdirTemp("", "ssdbench-*")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program, target, source := filepath.Join(dir, "ssdbench"), filepath.Join(dir, "target"), filepath.Join(dir, "source")
	testkit.Command(t, "cp", self, program)
	if err := errors.Join(os.Chmod(dir, 0o755), os.Mkdir(target, 0o755), os.Chown(target, nobody, nobody), os.Mkdir(source, 0o755),
		os.WriteFile(filepath.Join(source, "a"), make([]byte, 5<<20), 0o644)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, "run", "--target", target, "--source", source, "--size", "32M", "--samples", "1", "--blocks", "4M", "--yes")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, stderr.String())
	}
	r, err := bench.Decode(bytes.NewReader(out))
	if err != nil {
		t.Fatal(err)
	}
	if r.Cold != "fadvise" || !r.Complete || !strings.Contains(stderr.String(), "only root may empty all caches") || !strings.Contains(stderr.String(), "whether source was in the page cache is not known") {
		t.Errorf("caches were emptied by %s, complete %v: %s", r.Cold, r.Complete, stderr.String())
	}
	before, after, _ := strings.Cut(stderr.String(), "only root may")
	if said := stderr.String(); strings.Count(before, ": copy ") != 1 || strings.Contains(after, "only root may") {
		t.Errorf("said too late, or more than once: %s", said)
	}
	for _, c := range r.Cases {
		for _, s := range c.Samples {
			if (s.Cached == nil) != (c.Workload == "source") {
				t.Errorf("%s: cached before it %v", c.Workload, s.Cached)
			}
		}
	}
	if left, err := os.ReadDir(target); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

func TestExitStatus(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{nil, 0}, {errors.New("any"), 1}, {&usageError{"any"}, 2}, {&bench.CostError{}, 1},
		{fmt.Errorf("copy: %w", &bench.SpaceError{}), 4}, {fmt.Errorf("copy: %w", &copier.SpaceError{}), 4},
		{&os.PathError{Op: "write", Path: "x", Err: unix.ENOSPC}, 4}, {&os.PathError{Op: "write", Path: "x", Err: unix.EDQUOT}, 4},
		{errors.Join(errors.New("any"), &process.Interrupted{Signal: syscall.SIGTERM}), 143},
	} {
		if got := exitStatus(c.err); got != c.want {
			t.Errorf("%v: %d, wanted %d", c.err, got, c.want)
		}
	}
}

// A place that a result cannot be written to is refused before anything is measured.
func TestOutputsThatAreRefused(t *testing.T) {
	dir := t.TempDir()
	link, file := filepath.Join(dir, "link"), filepath.Join(dir, "file")
	if err := errors.Join(os.Symlink(dir, link), os.WriteFile(file, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	testkit.NeedRoot(t)
	drive, toDrive := filepath.Join(dir, "drive"), filepath.Join(dir, "to-drive")
	if err := errors.Join(unix.Mknod(drive, unix.S_IFBLK|0o600, int(unix.Mkdev(240, 7))), os.Symlink(drive, toDrive)); err != nil {
		t.Fatal(err)
	}
	for output, good := range map[string]bool{
		drive: false, toDrive: false,
		"": true, file: true, filepath.Join(dir, "new"): true, os.DevNull: true,
		dir: false, link: false, filepath.Join(dir, "none", "new"): false, filepath.Join(file, "new"): false,
	} {
		if err := (&runFlags{output: output}).checkOutput(); (err == nil) != good {
			t.Errorf("%s: %v", output, err)
		}
	}
	for _, drive := range []string{drive, toDrive} {
		if err := bench.WriteWhole(drive, []byte("text")); err == nil || !strings.Contains(err.Error(), "block device") {
			t.Errorf("write %s: %v", drive, err)
		}
	}
}

// What was measured is not lost because its file cannot be written.
func TestResultThatCannotBeWritten(t *testing.T) {
	var stdout, stderr strings.Builder
	f := &runFlags{output: filepath.Join(t.TempDir(), "none", "result.json"), format: formatJSON}
	err := f.write(host{&stdout, &stderr, 0}, example.Steady().Result(2))
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if r, err := bench.Decode(strings.NewReader(stdout.String())); err != nil || len(r.Cases) == 0 {
		t.Errorf("standard output has %d bytes that are no result: %v", stdout.Len(), err)
	}
}

// A result of a run that was ended early is beside what is there, and not in its place.
func TestPartialResult(t *testing.T) {
	path := filepath.Join(t.TempDir(), "result.json")
	write := func(complete bool) string {
		var stderr strings.Builder
		r := example.Steady().Result(2)
		r.Complete = complete
		if err := (&runFlags{output: path, format: formatJSON}).write(host{io.Discard, &stderr, 0}, r); err != nil {
			t.Fatal(err)
		}
		return stderr.String()
	}
	complete := func(path string) bool {
		r, err := bench.Load(path)
		if err != nil {
			t.Fatal(err)
		}
		return r.Complete
	}
	write(false)
	if complete(path) {
		t.Error("the first is not there")
	}
	write(true)
	if said := write(false); !complete(path) || complete(path+partial) || !strings.Contains(said, path+partial) {
		t.Errorf("complete %v, beside it %v: %s", complete(path), complete(path+partial), said)
	}
	if err := (&runFlags{output: path, format: formatJSON}).write(host{}, &bench.Result{Ceilings: []bench.Ceiling{{}}}); err != nil || !complete(path) {
		t.Errorf("nothing was measured, and written: %v", err)
	}
}

// A line of the terminal is never longer than that, and tells how far it is.
func TestProgressLine(t *testing.T) {
	p := &progress{host: host{columns: 60}, left: -1}
	if got := p.line(time.Unix(0, 0)); got != "" {
		t.Errorf("before the first step: %q", got)
	}
	p.Begin(3, 40, strings.Repeat("copy huge ", 20), "")
	p.line(time.Unix(10, 0))
	p.Moved(3 << 30)
	p.Rest(90 * time.Second)
	got := p.line(time.Unix(11, 0))
	if len([]rune(got)) != 59 || !strings.HasPrefix(got, "[3/40] 3.0 GiB/s, about 1m30s left: copy huge") {
		t.Errorf("%d runes: %q", len([]rune(got)), got)
	}
	p.host.columns = 80
	p.Begin(4, 40, "copy", "read")
	if got := p.line(time.Unix(12, 0)); !strings.HasSuffix(got, ": copy; next: read") {
		t.Errorf("what is next: %q", got)
	}
}
