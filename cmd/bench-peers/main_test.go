package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"shard_to_ssd/internal/testkit"
)

// buildPrograms builds this program and shard_to_ssd.
func buildPrograms(t *testing.T) (peers, bin string) {
	t.Helper()
	dir := t.TempDir()
	peers, bin = filepath.Join(dir, "bench-peers"), filepath.Join(dir, "shard_to_ssd")
	testkit.RunCommand(t, "go", "build", "-buildvcs=false", "-o", peers, ".")
	testkit.RunCommand(t, "go", "build", "-buildvcs=false", "-o", bin, "shard_to_ssd/cmd/shard_to_ssd")
	return peers, bin
}

// needTools skips the test if a tool of the rows below is missing.
func needTools(t *testing.T) {
	testkit.RequireRoot(t)
	testkit.RequireTools(t, "fio", "rclone", "fpsync", "fpart", "rsync", "time", "mkfs.ext4", "mkfs.xfs", "mkfs.btrfs")
}

// memoryDir makes a directory in memory, which is enough for tiny images.
func memoryDir(t *testing.T) string {
	t.Helper()
	return testkit.Mount(t, "tmpfs", 5<<28)
}

// On some MB, every contender of these rows does its work, and all targets are compared.
// The numbers are meaningless.
func TestTinyRun(t *testing.T) {
	needTools(t)
	peers, bin := buildPrograms(t)
	for _, c := range []struct {
		name     string
		flags    []string
		compared int
	}{
		{"rows of all kinds", []string{"--rows", "1,4,5,7,9,10,11,12,14,15"}, 20},
		{"two builds", []string{"--rows", "8,10", "--also", "same=" + bin}, 4},
	} {
		dir, report := memoryDir(t), filepath.Join(t.TempDir(), "report.md")
		flags := append(c.flags, "--size", "tiny", "--keep-caches", "--dir", dir, "-o", report, "--bin", bin)
		out := testkit.RunCommand(t, peers, flags...)
		text, err := os.ReadFile(report)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if strings.Contains(line, "failed") || strings.Contains(line, "not measured") {
				t.Errorf("%s: %s", c.name, line)
			}
		}
		if compared := strings.Count(string(text), " met |") + strings.Count(string(text), "**missed** |"); compared != c.compared {
			t.Errorf("%s: got %d targets compared, want %d", c.name, compared, c.compared)
		}
		requireEmpty(t, dir)
		if t.Failed() {
			t.Log(out)
		}
	}
}

// requireEmpty checks that the directory is empty, and that no disk in it is attached or
// mounted.
func requireEmpty(t *testing.T, dir string) {
	t.Helper()
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("the directory: got entries %v, %v, want none", entries, err)
	}
	if disks := testkit.RunCommand(t, "losetup", "-a"); strings.Contains(disks, dir) {
		t.Errorf("disks are still attached:\n%s", disks)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil || strings.Contains(string(mounts), dir+"/") {
		t.Errorf("still mounted, %v:\n%s", err, mounts)
	}
}

// Wrong command lines fail before anything is made.
func TestRefusals(t *testing.T) {
	needTools(t)
	testkit.RequireTools(t, "setpriv")
	peers, bin := buildPrograms(t)
	small := testkit.Mount(t, "tmpfs", 1<<20)
	for _, c := range []struct {
		name   string
		argv   []string
		status int
		want   string
	}{
		{"not root", []string{"setpriv", "--reuid", "65534", "--clear-groups", peers}, 1, "need root"},
		{"no room", []string{peers, "--size", "tiny", "--rows", "10", "--bin", bin, "--dir", small}, 1, `"calls, ext4" needs`},
		{"no such row", []string{peers, "--rows", "16", "--bin", bin}, 1, "got row 16, want 1 to 15"},
		{"no such size", []string{peers, "--size", "huge", "--bin", bin}, 1, `got size "huge", want`},
		{"no such program", []string{peers, "--rows", "1", "--bin", "/none/shard_to_ssd"}, 1, "/none/shard_to_ssd is not installed"},
		{"a build without a label", []string{peers, "--also", bin}, 2, "want label=path"},
		{"an argument", []string{peers, "quick"}, 2, `argument "quick"`},
		{"no such flag", []string{peers, "--fast"}, 2, "--fast"},
	} {
		cmd := exec.CommandContext(t.Context(), c.argv[0], c.argv[1:]...)
		cmd.Dir = small // a report would be here
		out, _ := cmd.CombinedOutput()
		if got := cmd.ProcessState.ExitCode(); got != c.status || !strings.Contains(string(out), c.want) {
			t.Errorf("%s: got status %d, %s, want %d, %q", c.name, got, out, c.status, c.want)
		}
	}
	if entries, err := os.ReadDir(small); err != nil || len(entries) > 0 {
		t.Errorf("after the refusals: got entries %v, %v, want none", entries, err)
	}
}

// If it is interrupted while a contender copies, no disk and no mount is left. SIGKILL
// leaves a directory, with nothing in it that takes space.
func TestInterruptedRun(t *testing.T) {
	needTools(t)
	peers, _ := buildPrograms(t)
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGKILL} {
		dir := memoryDir(t)
		cmd := exec.CommandContext(t.Context(), peers, "--size", "tiny", "--rows", "7", "--keep-caches",
			"--dir", dir, "-o", filepath.Join(t.TempDir(), "report.md"), "--bin", hangingProgram(t))
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		awaitHanging(t, cmd)
		if disks := testkit.RunCommand(t, "losetup", "-a"); !strings.Contains(disks, dir) {
			t.Fatalf("got no attached disk during the copy:\n%s", disks)
		}
		if err := cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		status := cmd.ProcessState.Sys().(syscall.WaitStatus)
		if signal == syscall.SIGKILL {
			awaitDetached(t, dir)
			continue
		}
		if status.ExitStatus() != 130 {
			t.Errorf("%v: got %v, want status 130", signal, cmd.ProcessState)
		}
		requireEmpty(t, dir)
	}
}

// hangingProgram makes a program that replaces shard_to_ssd and never ends. It reports in
// a FIFO beside it that it runs.
func hangingProgram(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "hanging")
	testkit.RunCommand(t, "mkfifo", path+".runs")
	script := "#!/bin/sh\n[ \"$1\" = --version ] && exit\necho >\"$0.runs\"\nexec sleep 600 # until it is killed\n"
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// awaitHanging waits until the program of --bin runs.
func awaitHanging(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	runs, err := os.OpenFile(cmd.Args[len(cmd.Args)-1]+".runs", os.O_RDWR, 0) // O_RDONLY would wait for a writer
	if err != nil {
		t.Fatal(err)
	}
	defer runs.Close()
	if err := runs.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := runs.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
}

// awaitDetached waits until the kernel has detached the disks of a killed process.
func awaitDetached(t *testing.T, dir string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		disks := testkit.RunCommand(t, "losetup", "-a")
		if !strings.Contains(disks, dir) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("disks are still attached:\n%s", disks)
		}
	}
	images, err := filepath.Glob(filepath.Join(dir, "*", "*.img"))
	if err != nil || len(images) > 0 {
		t.Errorf("got images %q, %v, want none", images, err)
	}
}
