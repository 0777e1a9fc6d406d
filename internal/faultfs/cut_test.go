package faultfs

import (
	"errors"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A script is lines of commands in the root of a file system.
func script(t *testing.T, root, lines string) {
	t.Helper()
	for line := range strings.Lines(lines) {
		words := strings.Fields(line)
		var path []string
		for _, word := range words[1:] {
			path = append(path, filepath.Join(root, word))
		}
		var err error
		switch words[0] {
		case "mkdir":
			err = os.Mkdir(path[0], 0o700)
		case "write": // a file, what; over what is there
			var f *os.File
			if f, err = os.OpenFile(path[0], os.O_WRONLY|os.O_CREATE, 0o600); err == nil {
				_, err = f.WriteString(words[2])
				err = errors.Join(err, f.Close())
			}
		case "chmod":
			err = os.Chmod(path[0], 0o640)
		case "sync", "datasync":
			sync := unix.Fsync
			if words[0] == "datasync" {
				sync = unix.Fdatasync
			}
			var f *os.File
			if f, err = os.Open(path[0]); err == nil {
				err = errors.Join(sync(int(f.Fd())), f.Close())
			}
		case "rename":
			err = os.Rename(path[0], path[1])
		case "exchange":
			err = unix.Renameat2(unix.AT_FDCWD, path[0], unix.AT_FDCWD, path[1], unix.RENAME_EXCHANGE)
		case "link":
			err = os.Link(path[0], path[1])
		case "remove":
			err = os.Remove(path[0])
		}
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
	}
}

// listing is every entry of a tree: directories with a slash, files with their
// contents.
func listing(t *testing.T, root string) string {
	t.Helper()
	found := map[string]bool{}
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		name := strings.TrimPrefix(path, root+"/")
		switch {
		case err != nil || path == root:
			return err
		case d.IsDir():
			found[name+"/"] = true
		default:
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			if info.Mode().Perm() == 0o640 {
				name += "*"
			}
			found[name+"="+string(text)] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(slices.Sorted(maps.Keys(found)), " ")
}

var cuts = map[string]struct{ script, keepsNone, keepsAll string }{
	"nothing":              {"mkdir d\nwrite f x", "", "d/ f=x"},
	"the file but no name": {"write f x\nsync f", "", "f=x"},
	"the name but no file": {"write f x\nsync .", "f=", "f=x"},
	"both":                 {"write f x\nsync f\nsync .", "f=x", "f=x"},
	"old data":             {"write f x\nsync f\nsync .\nwrite f yz", "f=x", "f=yz"},
	"data, not the mode":   {"write f x\nsync f\nsync .\nwrite f yz\nchmod f\ndatasync f", "f=yz", "f*=yz"},
	"an empty directory":   {"mkdir d\nwrite d/f x\nsync d/f\nsync .", "d/", "d/ d/f=x"},
	"a directory":          {"mkdir d\nwrite d/f x\nsync d/f\nsync d\nsync .", "d/ d/f=x", "d/ d/f=x"},
	"a removed file":       {"write f x\nsync f\nsync .\nremove f", "f=x", ""},
	"one removed for good": {"write f x\nsync f\nsync .\nremove f\nsync .", "", ""},
	"a rename in both": {"mkdir d\nwrite f x\nsync f\nsync d\nsync .\nrename f d/f\nsync d",
		"d/ d/f=x f=x", "d/ d/f=x"},
	"a rename in none": {"mkdir d\nwrite f x\nsync f\nsync d\nsync .\nrename f d/f\nsync .", "d/", "d/ d/f=x"},
	"one directory stays one": {"mkdir a\nmkdir b\nmkdir a/d\nsync a/d\nsync a\nsync b\nsync .\nrename a/d b/d\nsync b",
		"a/ b/ b/d/", "a/ b/ b/d/"},
	"an exchange": {"write f x\nwrite g y\nsync f\nsync g\nsync .\nexchange f g", "f=x g=y", "f=y g=x"},
	"a link":      {"write f x\nsync f\nsync .\nlink f g", "f=x", "f=x g=x"},
}

func TestCut(t *testing.T) {
	fs := mounted(t, 1<<20)
	for name, c := range cuts {
		for _, keep := range []bool{false, true} {
			script(t, fs.Dir, c.script)
			if err := fs.Cut(func() bool { return keep }); err != nil {
				t.Fatal(err)
			}
			want := c.keepsNone
			if keep {
				want = c.keepsAll
			}
			if got := listing(t, fs.Dir); got != want {
				t.Errorf("%s, keeping %v: got %q, wanted %q", name, keep, got, want)
			}
			clean(t, fs)
		}
	}
}

func clean(t *testing.T, fs *FS) {
	t.Helper()
	entries, err := os.ReadDir(fs.Dir)
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(fs.Dir, e.Name())))
	}
	if err != nil {
		t.Fatal(err)
	}
	forgotten(t, fs)
}

// forgotten waits until nothing but the root takes space: the kernel tells of inodes
// that it has forgotten in its own time.
func forgotten(t *testing.T, fs *FS) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for fs.Sync(); fs.Used() != pageSize; fs.Sync() {
		if time.Now().After(deadline) {
			t.Fatalf("%d bytes are used by nothing", fs.Used()-pageSize)
		}
		runtime.Gosched()
	}
}

func TestCheckpoint(t *testing.T) {
	fs := mounted(t, 1<<20)
	script(t, fs.Dir, "mkdir d\nwrite d/f x\nwrite g y\nlink g h")
	restore := fs.Checkpoint()
	for range 2 {
		script(t, fs.Dir, "write d/f zz\nchmod d/f\nsync d/f\nremove g\nrename h d/h\nsync .")
		if err := restore(); err != nil {
			t.Fatal(err)
		}
		if got := listing(t, fs.Dir); got != "d/ d/f=x g=y h=y" {
			t.Errorf("got %q", got)
		}
	}
}

// Whatever survives, it is a tree that can be listed and removed.
func TestCutKeepsAnything(t *testing.T) {
	fs := mounted(t, 1<<20)
	r := rand.New(rand.NewPCG(1, 0))
	for range 2 {
		for _, c := range cuts {
			script(t, fs.Dir, c.script)
			if err := fs.Cut(func() bool { return r.IntN(2) == 0 }); err != nil {
				t.Fatal(err)
			}
			listing(t, fs.Dir)
			clean(t, fs)
		}
	}
}
