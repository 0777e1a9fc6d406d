package faultfs

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/testkit"
)

func newMounted(t *testing.T, size int64) *FS {
	t.Helper()
	testkit.RequireRoot(t)
	return New(t, size)
}

// TestTree copies a random tree, with every kind of entry, to a faultfs.
func TestTree(t *testing.T) {
	testkit.RequireTools(t, "rsync", "setfacl")
	fs := newMounted(t, 1<<30)
	a, b := filepath.Join(t.TempDir(), "a"), filepath.Join(fs.Dir, "b")
	if err := os.Mkdir(a, 0o755); err != nil {
		t.Fatal(err)
	}
	testkit.RandomTree(t, a, 1, testkit.RandomOptions{Shallow: true})
	testkit.RunCommand(t, "setfacl", "-R", "-P", "-b", "-k", a)
	testkit.RunCommand(t, "rsync", "-aHX", "--sparse", a+"/", b+"/")
	fs.Sync()
	if err := fs.CutPower(nil); err != nil {
		t.Fatal(err)
	}
	testkit.ExpectSame(t, a, b)
	if err := os.RemoveAll(b); err != nil {
		t.Fatal(err)
	}
	waitUntilForgotten(t, fs)
}

func writeFile(path, text string) error { return os.WriteFile(path, []byte(text), 0o600) }

func readFile(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// readDirect reads the first page of a file with O_DIRECT.
func readDirect(path string) (string, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	buf, err := unix.Mmap(-1, 0, pageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return "", err
	}
	defer unix.Munmap(buf)
	n, err := f.ReadAt(buf, 0)
	return string(buf[:n]), err
}

// Buffered reads are answered from the page cache, direct reads from the disk.
func TestReadsReachTheDisk(t *testing.T) {
	fs := newMounted(t, 1<<20)
	path := filepath.Join(fs.Dir, "f")
	text := string(bytes.Repeat([]byte("x"), pageSize))
	if err := writeFile(path, text); err != nil {
		t.Fatal(err)
	}
	if err := fs.FlipOnDisk("f", 8); err != nil {
		t.Fatal(err)
	}
	rotten := text[:8] + "y" + text[9:]
	if got := readFile(path); got != text {
		t.Errorf("cached: got %.10q, want %.10q", got, text)
	}
	if got, err := readDirect(path); got != rotten {
		t.Errorf("direct: got %.10q, %v, want %.10q", got, err, rotten)
	}
	fs.DropCache()
	if got := readFile(path); got != rotten {
		t.Errorf("no longer cached: got %.10q, want %.10q", got, rotten)
	}
}

func TestFaults(t *testing.T) {
	fs := newMounted(t, 1<<20)
	path := filepath.Join(fs.Dir, "dir/f")
	if err := errors.Join(os.Mkdir(filepath.Dir(path), 0o700), writeFile(path, "abcdef")); err != nil {
		t.Fatal(err)
	}
	read := func() string { fs.DropCache(); return readFile(path) }
	fails := func(e error) string {
		var errno syscall.Errno
		errors.As(e, &errno)
		return unix.ErrnoName(errno)
	}
	for name, c := range map[string]struct {
		fault            Fault
		do               func() string
		during, repeated string
	}{
		"flip once":       {Fault{Op: Read, Name: "dir/f", From: 2, To: 3, Times: 1, Change: FlipBit(2)}, read, "abgdef", "abcdef"},
		"flip second":     {Fault{Op: Read, Skip: 1, Change: FlipBit(2)}, read, "abcdef", "abgdef"},
		"another file":    {Fault{Op: Read, Name: "g", Change: FlipBit(2)}, read, "abcdef", "abcdef"},
		"beyond":          {Fault{Op: Read, From: pageSize, To: 2 * pageSize, Err: syscall.EIO}, read, "abcdef", "abcdef"},
		"write dropped":   {Fault{Op: Write, Drop: true}, func() string { writeFile(path, "xyz"); return read() }, "\x00\x00\x00", "\x00\x00\x00"},
		"write fails":     {Fault{Op: Write, Err: syscall.EIO}, func() string { return fails(writeFile(path, "abcdef")) }, "EIO", "EIO"},
		"direct refused":  {Fault{Op: OpenDirect, Err: syscall.EINVAL}, func() string { _, err := readDirect(path); return fails(err) }, "EINVAL", "EINVAL"},
		"rename fails":    {Fault{Op: Rename, Name: "dir/g", Err: syscall.EROFS}, func() string { return fails(os.Rename(path, path[:len(path)-1]+"g")) }, "EROFS", "EROFS"},
		"directory fails": {Fault{Op: List, Name: "dir", Err: syscall.EIO}, func() string { _, err := os.ReadDir(filepath.Dir(path)); return fails(err) }, "EIO", "EIO"},
	} {
		if err := writeFile(path, "abcdef"); err != nil {
			t.Fatal(err)
		}
		i := fs.Inject(c.fault)
		if got := c.do(); got != c.during {
			t.Errorf("%s: got %q, want %q", name, got, c.during)
		}
		if got := c.do(); got != c.repeated {
			t.Errorf("%s, repeated: got %q, want %q", name, got, c.repeated)
		}
		i.Remove()
	}
}

func TestHang(t *testing.T) {
	fs := newMounted(t, 1<<20)
	release := make(chan struct{})
	i := fs.Inject(Fault{Op: Write, Hang: release})
	done := make(chan error)
	go func() { done <- writeFile(filepath.Join(fs.Dir, "f"), "x") }()
	<-i.Triggered()
	select {
	case err := <-done:
		t.Errorf("the write did not hang: %v", err)
	default:
	}
	close(release)
	if err := <-done; err != nil || i.HitCount() != 1 {
		t.Errorf("got %v, %d calls, want success and one call", err, i.HitCount())
	}
}

func TestFull(t *testing.T) {
	fs := newMounted(t, 1<<20)
	path := filepath.Join(fs.Dir, "f")
	fs.SetSize(6*pageSize, true) // the root, the file, and four pages of the file
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if n, err := f.Write(make([]byte, 1<<16)); n != 4*pageSize || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("wrote %d bytes, %v, want %d and ENOSPC", n, err, 4*pageSize)
	}
	if err := os.Mkdir(filepath.Join(fs.Dir, "d"), 0o700); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("mkdir: got %v, want ENOSPC", err)
	}
	var s unix.Statfs_t
	if err := unix.Statfs(fs.Dir, &s); err != nil || s.Bavail != 1<<20/pageSize-6 {
		t.Errorf("statfs: got %d blocks available, %v, want the hidden size to have no effect", s.Bavail, err)
	}
	if err := errors.Join(f.Truncate(0), writeFile(path, "x")); err != nil {
		t.Errorf("after making room: %v", err)
	}
}

func TestRate(t *testing.T) {
	fs := newMounted(t, 64<<20)
	fs.SetRate(0, 100<<20)
	data := make([]byte, 20<<20)
	start := time.Now()
	if err := os.WriteFile(filepath.Join(fs.Dir, "f"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	// 200 ms, less the bytes that an idle disk passes at once. A busy machine takes longer.
	if took := time.Since(start); took < 190*time.Millisecond {
		t.Errorf("20 MiB at 100 MiB/s took %v, want about 200 ms", took)
	}
}
