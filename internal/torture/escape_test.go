package torture

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"shard_to_ssd/internal/testkit"
)

// kinds maps the system calls to their names in the layer. Several calls may have the
// same name there.
var kinds = map[string]string{
	"openat": "open", "openat2": "open", "close": "close",
	"pread64": "read", "preadv2": "read", "pwrite64": "write", "pwritev2": "write",
	"statx": "stat", "fstatfs": "statfs", "getdents64": "list", "readlinkat": "readlink",
	"mkdirat": "mkdir", "symlinkat": "symlink", "linkat": "link", "renameat2": "rename",
	"unlinkat": "unlink", "fchmod": "chmod", "fchown": "chown", "fchownat": "chown", "utimensat": "set times of",
	"llistxattr": "list xattrs of", "listxattrat": "list xattrs of", "lgetxattr": "get xattr", "lsetxattr": "set xattr", "lremovexattr": "remove xattr",
	"fsync": "fsync", "fdatasync": "fdatasync", "syncfs": "syncfs", "ftruncate": "truncate",
	"copy_file_range": "copy_file_range", "cachestat": "cachestat", "fadvise64": "fadvise", "io_submit": "submit reads of",
}

// distinguished are calls whose name in the layer depends on an argument.
var distinguished = []struct{ call, argument, name string }{
	{"openat", "O_TMPFILE", "create"},
	{"unlinkat", "AT_REMOVEDIR", "rmdir"},
	{"flock", "LOCK_UN", "unlock"},
	{"flock", "LOCK_EX", "flock"},
	{"lseek", "SEEK_SET", "list"},
	{"lseek", "SEEK_", "seek"},
	{"fallocate", "FALLOC_FL_PUNCH_HOLE", "punch hole in"},
	{"fallocate", "", "fallocate"},
	{"ioctl", "FICLONE", "clone"},
	{"fcntl", "F_GETFL", "clear O_DIRECT of"},
	{"fcntl", "F_SETFL", "clear O_DIRECT of"},
}

func kindOf(call, arguments string) string {
	for _, d := range distinguished {
		if d.call == call && strings.Contains(arguments, d.argument) {
			return d.name
		}
	}
	if kind := kinds[call]; kind != "" {
		return kind
	}
	return "unknown to the layer: " + call + "(" + arguments
}

// The sweeps see only the system calls that go through the layer. So each call on the
// host's directories must go through it: strace and the layer must count the same
// number of calls of each kind.
func TestNoCallEscapesTheLayer(t *testing.T) {
	testkit.RequireTools(t, "strace")
	s := newSweep(t, testkit.FS{Name: "ext4", Dir: testkit.Mount(t, "ext4", 256<<20)})
	for _, name := range []string{"copy", "copy range", "copy buffered", "copy cold", "register long", "resume late", "adopt", "remove trash", "replace managed", "remove", "verify", "list"} {
		op := operationNamed(name)
		t.Run(name, func(t *testing.T) {
			h, err := s.prepareHost(op)
			if err != nil {
				t.Fatal(err)
			}
			mode, id, flags := op.commandLine(h, 2)
			trace, log := filepath.Join(s.logs, "strace"), filepath.Join(s.logs, "log")
			c := h.command(mode, id, flags...)
			c.Args = append([]string{"strace", "-f", "-y", "-s", "4096", "-o", trace}, c.Args...)
			c.Path, err = exec.LookPath("strace")
			if err != nil {
				t.Fatal(err)
			}
			c.Env = fault{}.environ(log)
			if o := runCommand(c); o.status != 0 {
				t.Fatal(o)
			}
			kernel, layer := countStraced(t, trace, s.fs.Dir), loggedKinds(t, log, s.fs.Dir)
			for _, kind := range slices.Sorted(maps.Keys(kernel)) {
				if kernel[kind] != layer[kind] {
					t.Errorf("%s: strace counted %d calls, the layer %d", kind, kernel[kind], layer[kind])
				}
				count("system calls compared with strace", kernel[kind])
				delete(layer, kind)
			}
			if len(layer) > 0 {
				t.Errorf("only the layer counted: %v", layer)
			}
			if err := os.Remove(log); err != nil {
				t.Error(err)
			}
		})
	}
}

// loggedKinds counts the calls on paths below dir in the log of the layer.
func loggedKinds(t *testing.T, log, dir string) map[string]int {
	t.Helper()
	calls, err := readLog(log)
	if err != nil {
		t.Fatal(err)
	}
	of := map[string]int{}
	for _, c := range calls {
		if !strings.HasPrefix(c.path, dir+"/") || c.op == "read at once" { // not a call: the result of one file of a batch
			continue
		}
		if words := strings.Fields(c.op); len(words) > 2 && words[1] == "xattr" { // followed by the name of an attribute
			c.op = words[0] + " " + words[1]
		}
		of[c.op]++
	}
	return of
}

// countStraced counts the calls that name a path below dir, or have a descriptor of
// one.
func countStraced(t *testing.T, trace, dir string) map[string]int {
	t.Helper()
	text, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	text = bytes.ReplaceAll(text, []byte("syscall_0x1c3(0x"), []byte("cachestat(<"+dir+"/"))   // in strace before 6.5
	text = bytes.ReplaceAll(text, []byte("syscall_0x1d1(0x"), []byte("listxattrat(<"+dir+"/")) // in strace before 6.13
	descriptor := regexp.MustCompile(`^(\w+\([^"]*|symlinkat\(".*)<` + regexp.QuoteMeta(dir) + `/`)
	path := regexp.MustCompile(`^\w+\([^"]*"(` + regexp.QuoteMeta(dir) + `|/proc/self/fd)/`)
	of := map[string]int{}
	for _, call := range joinHalves(string(text)) {
		name, arguments, _ := strings.Cut(call, "(")
		if name != "execve" && (descriptor.MatchString(call) || path.MatchString(call)) {
			of[kindOf(name, arguments)]++
		}
	}
	return of
}

// joinHalves joins the halves of calls that strace splits when another thread makes a
// call.
func joinHalves(text string) (calls []string) {
	unfinished := map[string]string{} // by thread
	for line := range strings.Lines(text) {
		pid, call, _ := strings.Cut(strings.TrimSpace(line), " ")
		call = strings.TrimSpace(call)
		if begun, cut := strings.CutSuffix(call, " <unfinished ...>"); cut {
			unfinished[pid] = begun
			continue
		}
		if strings.HasPrefix(call, "<... ") {
			call = unfinished[pid] + call[strings.Index(call, ">")+1:]
		}
		calls = append(calls, call)
	}
	return calls
}

// The released program does not have the layer: its environment cannot make it fail.
func TestReleaseHasNoFaults(t *testing.T) {
	dir := t.TempDir()
	h := newHost(t, program(t), filepath.Join(dir, "source"), dir)
	log := filepath.Join(dir, "log")
	c := h.command("-c", "a")
	c.Env = fault{action: "kill-before", at: 1}.environ(log)
	if o := runCommand(c); o.status != 0 {
		t.Errorf("the release reads the fault from its environment: %v", o)
	}
	if _, err := os.Lstat(log); !os.IsNotExist(err) {
		t.Errorf("the release writes a log of its calls: %v", err)
	}
	for bin, want := range map[string]bool{program(t): false, faulty(t): true} {
		text, err := os.ReadFile(bin)
		if err != nil {
			t.Fatal(err)
		}
		if got := bytes.Contains(text, []byte(fmt.Sprint("SHARD_TO_SSD_", "FAULT"))); got != want {
			t.Errorf("%s has the layer: %t, want %t", bin, got, want)
		}
	}
}
