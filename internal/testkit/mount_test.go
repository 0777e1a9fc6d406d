package testkit

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// recordedTest replaces a test and records how it ended.
type recordedTest struct {
	testing.TB
	end      string
	cleanups []func()
}

func (j *recordedTest) Fatalf(format string, args ...any) {
	j.stop("fatal: " + fmt.Sprintf(format, args...))
}
func (j *recordedTest) Fatal(args ...any) { j.stop("fatal: " + fmt.Sprint(args...)) }
func (j *recordedTest) Skip(args ...any)  { j.stop("skip: " + fmt.Sprint(args...)) }
func (j *recordedTest) Errorf(format string, args ...any) {
	j.end += "error: " + fmt.Sprintf(format, args...)
}
func (j *recordedTest) Cleanup(f func()) { j.cleanups = append(j.cleanups, f) }

func (j *recordedTest) stop(end string) {
	j.end = end
	runtime.Goexit()
}

// runRecorded calls run with a recordedTest, in a goroutine that run may end.
func runRecorded(t *testing.T, run func(t testing.TB)) *recordedTest {
	t.Helper()
	j := &recordedTest{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		run(j)
	}()
	<-done
	return j
}

func TestNeed(t *testing.T) {
	absent := func(t testing.TB) { RequireTools(t, "sh", "no-such-tool") }
	for _, c := range []struct{ tests, want string }{
		{"", "skip: no-such-tool is not installed: apt-get install no-such-tool"},
		{"check", "skip: needs tools: sh no-such-tool"},
		{"all", "fatal: no-such-tool is not installed"},
	} {
		t.Setenv("SHARD_TO_SSD_TESTS", c.tests)
		if j := runRecorded(t, absent); !strings.HasPrefix(j.end, c.want) {
			t.Errorf("SHARD_TO_SSD_TESTS=%q: got %q, want %q", c.tests, j.end, c.want)
		}
	}
	if j := runRecorded(t, func(t testing.TB) { RequireTools(t, "sh") }); j.end != "" {
		t.Errorf("with the tool installed: got %q, want no end", j.end)
	}
	if got := debianPackage("mkfs.xfs"); got != "xfsprogs" {
		t.Errorf("package of mkfs.xfs: got %q, want xfsprogs", got)
	}
}

func TestNeedRootInCheck(t *testing.T) {
	t.Setenv("SHARD_TO_SSD_TESTS", "check")
	for name, need := range map[string]func(testing.TB){
		"NeedRoot": func(t testing.TB) { RequireRoot(t) },
		"Mount":    func(t testing.TB) { Mount(t, "tmpfs", 1<<20) },
	} {
		if j := runRecorded(t, need); !strings.HasPrefix(j.end, "skip: ") {
			t.Errorf("%s: got %q, want a skipped test", name, j.end)
		}
	}
}

func TestLeaveOut(t *testing.T) {
	t.Setenv("SHARD_TO_SSD_TESTS", "all")
	if j := runRecorded(t, func(t testing.TB) { leaveOut(t, "it") }); !strings.HasPrefix(j.end, "fatal: left out it") {
		t.Errorf("got %q", j.end)
	}
}

func TestCommand(t *testing.T) {
	if got := RunCommand(t, "sh", "-c", "echo out; echo err >&2"); got != "out\nerr\n" {
		t.Errorf("got %q", got)
	}
	j := runRecorded(t, func(t testing.TB) { RunCommand(t, "sh", "-c", "echo why; exit 3") })
	if !strings.Contains(j.end, "exit status 3\nwhy") {
		t.Errorf("got %q", j.end)
	}
}

func TestApplyFails(t *testing.T) {
	dir := t.TempDir()
	j := runRecorded(t, func(t testing.TB) { Apply(t, dir, Dir("a", 0o755), Dir("a", 0o755)) })
	if want := "fatal: step 2 of 2: mkdir " + dir + "/a: file exists"; j.end != want {
		t.Errorf("got %q, want %q", j.end, want)
	}
}

func isMounted(t *testing.T, dir string) bool {
	t.Helper()
	table, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(table), " "+dir+" ")
}

func TestMounts(t *testing.T) {
	if !mayMount() {
		forgo(t, "needs root")
	}
	var systems []FS
	t.Run("while it runs", func(t *testing.T) {
		systems = FileSystems(t)
		if len(systems) != 4 {
			t.Errorf("got %d file systems, want 4", len(systems))
		}
		for _, system := range systems {
			if names := SnapshotTree(system.Dir); len(names) != 1 {
				t.Errorf("%s is not empty: %v", system.Name, names)
			}
			if !isMounted(t, system.Dir) {
				t.Errorf("%s is not mounted", system.Name)
			}
			Apply(t, system.Dir, File("file", 100_000, 1))
		}
	})
	for _, system := range systems {
		if isMounted(t, system.Dir) {
			t.Errorf("%s is still mounted", system.Name)
		}
		if tree := SnapshotTree(filepath.Dir(system.Dir)); len(tree) != 0 {
			t.Errorf("%s: %d entries are left", system.Name, len(tree))
		}
	}
}

func TestMountSize(t *testing.T) {
	const size = 400 << 20
	for _, system := range FileSystemsOf(t, size) {
		if system.Name == "tempdir" {
			continue
		}
		var st unix.Statfs_t
		if err := unix.Statfs(system.Dir, &st); err != nil {
			t.Fatal(err)
		}
		if total := int64(st.Blocks) * int64(st.Bsize); total > size || total < size*3/4 {
			t.Errorf("%s has %d bytes, want about %d", system.Name, total, size)
		}
	}
}

func TestUnmountBusy(t *testing.T) {
	if !mayMount() {
		forgo(t, "needs root")
	}
	var dir string
	var open *os.File
	j := runRecorded(t, func(t testing.TB) {
		dir = Mount(t, "ext4", 64<<20)
		open, _ = os.Create(filepath.Join(dir, "open"))
	})
	defer open.Close()
	for _, cleanup := range j.cleanups {
		cleanup()
	}
	if !strings.HasPrefix(j.end, "error: unmount "+dir) {
		t.Errorf("got %q", j.end)
	}
	if isMounted(t, dir) {
		t.Error("still mounted")
	}
}
