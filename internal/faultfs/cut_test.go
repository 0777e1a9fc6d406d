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

// runScript runs the commands in the lines, in the root of a file system.
func runScript(t *testing.T, root, lines string) {
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
		case "write": // FILE TEXT; it does not truncate the file
			err = overwrite(path[0], words[2])
		case "chmod":
			err = os.Chmod(path[0], 0o640)
		case "sync":
			err = syncWith(unix.Fsync, path[0])
		case "datasync":
			err = syncWith(unix.Fdatasync, path[0])
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

func overwrite(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

func syncWith(sync func(fd int) error, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(sync(int(f.Fd())), f.Close())
}

// listTree lists every entry of a tree: directories with a slash, files with their
// contents, and a star after the name if the mode is 0640.
func listTree(t *testing.T, root string) string {
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
	fs := newMounted(t, 1<<20)
	for name, c := range cuts {
		for _, keep := range []bool{false, true} {
			runScript(t, fs.Dir, c.script)
			if err := fs.CutPower(func() bool { return keep }); err != nil {
				t.Fatal(err)
			}
			want := c.keepsNone
			if keep {
				want = c.keepsAll
			}
			if got := listTree(t, fs.Dir); got != want {
				t.Errorf("%s, keep %v: got %q, want %q", name, keep, got, want)
			}
			removeAll(t, fs)
		}
	}
}

func removeAll(t *testing.T, fs *FS) {
	t.Helper()
	entries, err := os.ReadDir(fs.Dir)
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(fs.Dir, e.Name())))
	}
	if err != nil {
		t.Fatal(err)
	}
	waitUntilForgotten(t, fs)
}

// waitUntilForgotten waits until only the root takes space: the kernel reports late that
// it has forgotten an inode.
func waitUntilForgotten(t *testing.T, fs *FS) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for fs.Sync(); fs.UsedBytes() != pageSize; fs.Sync() {
		if time.Now().After(deadline) {
			t.Fatalf("%d bytes stay in use without a file", fs.UsedBytes()-pageSize)
		}
		runtime.Gosched()
	}
}

func TestCheckpoint(t *testing.T) {
	fs := newMounted(t, 1<<20)
	runScript(t, fs.Dir, "mkdir d\nwrite d/f x\nwrite g y\nlink g h")
	restore := fs.Checkpoint()
	for range 2 {
		runScript(t, fs.Dir, "write d/f zz\nchmod d/f\nsync d/f\nremove g\nrename h d/h\nsync .")
		if err := restore(); err != nil {
			t.Fatal(err)
		}
		if got := listTree(t, fs.Dir); got != "d/ d/f=x g=y h=y" {
			t.Errorf("got %q, want the files as they were at the checkpoint", got)
		}
	}
}

// After any power cut there is a tree that can be listed and removed.
func TestCutKeepsAnything(t *testing.T) {
	fs := newMounted(t, 1<<20)
	r := rand.New(rand.NewPCG(1, 0))
	for range 2 {
		for _, c := range cuts {
			runScript(t, fs.Dir, c.script)
			if err := fs.CutPower(func() bool { return r.IntN(2) == 0 }); err != nil {
				t.Fatal(err)
			}
			listTree(t, fs.Dir)
			removeAll(t, fs)
		}
	}
}
