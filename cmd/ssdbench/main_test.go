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

// The help has every flag of run.
func TestHelpNamesEveryFlag(t *testing.T) {
	text := helpText()
	for _, flag := range []string{"target", "source", "profile", "size", "engines", "blocks", "jobs", "samples", "share", "pause", "seed",
		"hide-serial", "yes", "output", "format"} {
		if !strings.Contains(text, "--"+flag+" ") {
			t.Errorf("the help has no --%s", flag)
		}
		if _, err := parseRun([]string{"--target=x", "--" + flag}); err != nil && strings.Contains(err.Error(), "unknown") {
			t.Errorf("the help has --%s, which does not exist: %v", flag, err)
		}
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]int64{"1": 1, "500000": 500000, "4K": 4096, "4M": 4 << 20, "1.5GiB": 3 << 29, "800MB": 800e6} {
		var s size
		if err := s.Set(text); err != nil || int64(s) != want {
			t.Errorf("%s: got %d, %v, want %d", text, s, err, want)
		}
	}
	for _, text := range []string{"", "0", "-1", "4KK"} {
		var s size
		if err := s.Set(text); err == nil {
			t.Errorf("%q: got %d, want an error", text, s)
		}
	}
}

// A signal ends a run at any step with status 128+n. The run leaves nothing on the SSD
// and writes its measurements.
func TestSignalLeavesNothing(t *testing.T) {
	for _, one := range []struct {
		signal syscall.Signal
		at     string // text of the progress line at which the signal is sent
		status int
	}{{syscall.SIGINT, "1 of ", 130}, {syscall.SIGTERM, " make workload ", 143}, {syscall.SIGINT, " copy huge", 130}, {syscall.SIGINT, " then make the long write", 130}} {
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
		output, sent := "", false
		for lines.Scan() {
			output += lines.Text() + "\n"
			if !sent && strings.Contains(lines.Text(), one.at) {
				sent = true
				if err := cmd.Process.Signal(one.signal); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = cmd.Wait() // the status is checked below
		if status := cmd.ProcessState.ExitCode(); status != one.status {
			t.Errorf("%v: got status %d, want %d:\n%s", one.signal, status, one.status, output)
		}
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("%v: got %v in the target, want nothing", one.signal, left)
		}
		if r, err := bench.Load(out); one.at != "1 of " && (err != nil || r.Complete) {
			t.Errorf("%v: got error %v, complete %v, want an incomplete result", one.signal, err, r != nil && r.Complete)
		} else if one.at == " then make the long write" && (r.Sustained == nil || r.Sustained.Complete) {
			t.Errorf("%v: got a complete long write: %+v", one.signal, r.Sustained)
		}
	}
}

// A user who is not root can measure, with warnings: the caches of the machine stay, and
// the kernel does not report the cached pages of the files of root.
func TestWithoutRoot(t *testing.T) {
	testkit.RequireRoot(t)
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
	testkit.RunCommand(t, "cp", self, program)
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
	if r.CacheMethod != "fadvise" || !r.Complete || !strings.Contains(stderr.String(), "only root may empty all caches") || !strings.Contains(stderr.String(), "cannot check whether source was in the page cache") {
		t.Errorf("got caches emptied by %s, complete %v: %s", r.CacheMethod, r.Complete, stderr.String())
	}
	before, after, _ := strings.Cut(stderr.String(), "only root may")
	if text := stderr.String(); strings.Count(before, ": copy ") != 1 || strings.Contains(after, "only root may") {
		t.Errorf("the warning is too late, or there is more than one: %s", text)
	}
	for _, c := range r.Cases {
		for _, s := range c.Samples {
			if (s.Cached == nil) != (c.Workload == "source") {
				t.Errorf("%s: got %v bytes cached", c.Workload, s.Cached)
			}
		}
	}
	if left, err := os.ReadDir(target); err != nil || len(left) > 0 {
		t.Errorf("got %v, %v in the target, want nothing", left, err)
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
			t.Errorf("%v: got status %d, want %d", c.err, got, c.want)
		}
	}
}

// An output that cannot be written is refused before the run.
func TestRefusedOutputs(t *testing.T) {
	dir := t.TempDir()
	link, file := filepath.Join(dir, "link"), filepath.Join(dir, "file")
	if err := errors.Join(os.Symlink(dir, link), os.WriteFile(file, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	testkit.RequireRoot(t)
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
			t.Errorf("%s: got error %v, want none: %v", output, err, good)
		}
	}
	for _, drive := range []string{drive, toDrive} {
		if err := bench.WriteAtomic(drive, []byte("text")); err == nil || !strings.Contains(err.Error(), "block device") {
			t.Errorf("write %s: got error %v, want a refusal", drive, err)
		}
	}
}

// The measurements are not lost if their file cannot be written.
func TestResultThatCannotBeWritten(t *testing.T) {
	var stdout, stderr strings.Builder
	f := &runFlags{output: filepath.Join(t.TempDir(), "none", "result.json"), format: formatJSON}
	err := f.writeResult(host{&stdout, &stderr, 0}, measuredResult())
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got error %v, want ErrNotExist", err)
	}
	if r, err := bench.Decode(strings.NewReader(stdout.String())); err != nil || len(r.Cases) == 0 {
		t.Errorf("standard output has %d bytes, but no result: %v", stdout.Len(), err)
	}
}

// The result of a run that ended early does not replace a complete result.
func TestPartialResult(t *testing.T) {
	path := filepath.Join(t.TempDir(), "result.json")
	write := func(complete bool) string {
		var stderr strings.Builder
		r := measuredResult()
		r.Complete = complete
		if err := (&runFlags{output: path, format: formatJSON}).writeResult(host{io.Discard, &stderr, 0}, r); err != nil {
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
		t.Error("got no incomplete result")
	}
	write(true)
	if message := write(false); !complete(path) || complete(path+partialSuffix) || !strings.Contains(message, path+partialSuffix) {
		t.Errorf("got complete %v, and %v for the second file: %s", complete(path), complete(path+partialSuffix), message)
	}
	if err := (&runFlags{output: path, format: formatJSON}).writeResult(host{}, &bench.Result{Ceilings: []bench.Ceiling{{}}}); err != nil || !complete(path) {
		t.Errorf("a result without a measurement was written: %v", err)
	}
}

// The progress line is never longer than the terminal.
func TestProgressLine(t *testing.T) {
	p := &progress{host: host{columns: 60}, left: -1}
	if got := p.statusLine(time.Unix(0, 0)); got != "" {
		t.Errorf("before the first step: got %q, want nothing", got)
	}
	p.BeginStep(3, 40, strings.Repeat("copy huge ", 20), "")
	p.statusLine(time.Unix(10, 0))
	p.BytesMoved(3 << 30)
	p.TimeLeft(90 * time.Second)
	got := p.statusLine(time.Unix(11, 0))
	if len([]rune(got)) != 59 || !strings.HasPrefix(got, "[3/40] 3.0 GiB/s, about 1m30s left: copy huge") {
		t.Errorf("got %d runes: %q", len([]rune(got)), got)
	}
	p.host.columns = 80
	p.BeginStep(4, 40, "copy", "read")
	if got := p.statusLine(time.Unix(12, 0)); !strings.HasSuffix(got, ": copy; next: read") {
		t.Errorf("got %q, want the next step at its end", got)
	}
}

// measuredResult is a valid result of one copy.
func measuredResult() *bench.Result {
	return &bench.Result{Version: bench.ResultVersion, Started: time.Unix(1, 0), Complete: true,
		Cases: []bench.Case{{Workload: "huge", Engine: "direct", Block: 4 << 20, Jobs: 4, Bytes: 1 << 30, Samples: []bench.Sample{{LastDone: 2}}}}}
}
