package sys

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/testkit"
)

func mustOpenDir(t *testing.T, path string) *File {
	t.Helper()
	d, err := OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// A file that does not end on a block is padded when it is written with direct I/O.
// After the padding is cut off, it is read back at its own length.
func TestDirectTail(t *testing.T) {
	d := mustOpenDir(t, t.TempDir())
	f, err := d.OpenAt("f", unix.O_RDWR|unix.O_CREAT|unix.O_DIRECT, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	buf, err := AllocBuffer(3 * Align)
	if err != nil {
		t.Fatal(err)
	}
	defer FreeBuffer(buf)
	const size = 2*Align + 77
	for i := range size {
		buf[i] = byte(i * 7)
	}
	want := bytes.Clone(buf[:size])
	if err := errors.Join(f.WriteAt(buf, 0), f.Truncate(size)); err != nil {
		t.Fatal(err)
	}
	clear(buf)
	for range 2 {
		if n, err := f.ReadAt(buf, len(buf), 0); n != size || err != nil || !bytes.Equal(buf[:size], want) {
			t.Errorf("got %d bytes, %v, want %d", n, err, size)
		}
	}
	if n, err := f.ReadAt(buf, 10, 4*Align); n != 0 || err != nil {
		t.Errorf("read beyond the end: got %d bytes, %v, want 0", n, err)
	}
}

func TestErrorsNameOperationAndPath(t *testing.T) {
	dir := t.TempDir()
	d := mustOpenDir(t, dir)
	_, err := d.OpenAt("missing", unix.O_RDONLY, 0)
	var at *fs.PathError
	if !errors.As(err, &at) || at.Op != "open" || at.Path != filepath.Join(dir, "missing") || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want an error of open with the whole path", err)
	}
	if !IsNoSpace(&fs.PathError{Op: "write", Err: unix.EDQUOT}) || IsNoSpace(&fs.PathError{Op: "set xattr user.a of", Err: unix.ENOSPC}) {
		t.Error("NoSpace: want true for a full quota, false for an attribute that is too large")
	}
}

func TestNothingFollowsLinks(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(os.MkdirAll(dir+"/real/below", 0o755), os.Symlink("real", dir+"/link"),
		os.WriteFile(dir+"/real/f", nil, 0o600), os.Symlink("real/f", dir+"/flink")); err != nil {
		t.Fatal(err)
	}
	d := mustOpenDir(t, dir)
	for _, path := range []string{"link", "link/below"} {
		for name, open := range map[string]func(string) (*File, error){"openat2": d.OpenBelow, "stepwise": openerWithoutOpenat2(d)} {
			if f, err := open(path); !IsErrno(err, unix.ELOOP, unix.ENOTDIR) {
				t.Errorf("%s %s: got %v, %v, want ELOOP or ENOTDIR", name, path, f, err)
			}
		}
	}
	if _, err := d.OpenAt("flink", unix.O_RDONLY, 0); !IsErrno(err, unix.ELOOP) {
		t.Errorf("open flink: got %v, want ELOOP", err)
	}
	for name, open := range map[string]func(string) (*File, error){"openat2": d.OpenBelow, "stepwise": openerWithoutOpenat2(d)} {
		f, err := open("real/below")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		f.Close()
	}
	if s, err := d.StatAt("link"); err != nil || !s.IsSymlink() {
		t.Errorf("stat link: got %+v, %v, want a symbolic link", s, err)
	}
}

// openerWithoutOpenat2 returns OpenBelow as it works without openat2.
func openerWithoutOpenat2(d *File) func(string) (*File, error) {
	return func(rel string) (*File, error) { return d.openStepwise(rel, unix.RESOLVE_NO_SYMLINKS) }
}

// A caller that deletes enters no mount, not even a bind mount of the same file system
// or of a directory onto one in it. A caller that reads enters mounts.
func TestOnlyReadersEnterMounts(t *testing.T) {
	testkit.RequireRoot(t)
	dir := t.TempDir()
	if err := errors.Join(os.MkdirAll(dir+"/bound/below", 0o755), os.MkdirAll(dir+"/tmpfs", 0o755), os.MkdirAll(dir+"/plain/cycle", 0o755)); err != nil {
		t.Fatal(err)
	}
	for to, from := range map[string]string{"/bound": "/plain", "/tmpfs": "tmpfs", "/plain/cycle": "/plain"} {
		kind, flags, device := "", uintptr(unix.MS_BIND), dir+from
		if from == "tmpfs" {
			kind, flags, device = "tmpfs", 0, from
		}
		if err := unix.Mount(device, dir+to, kind, flags, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Unmount(dir+to, unix.MNT_DETACH) })
	}
	d := mustOpenDir(t, dir)
	within := func(rel string) (*File, error) {
		return d.openStepwise(rel, unix.RESOLVE_NO_SYMLINKS|unix.RESOLVE_NO_XDEV)
	}
	for path, mounted := range map[string]bool{".": false, "plain": false, "bound": true, "bound/cycle": true, "tmpfs": true, "plain/cycle": true} {
		for name, open := range map[string]func(string) (*File, error){"openat2": d.OpenWithin, "stepwise": within, "reader": d.OpenBelow, "reader, stepwise": openerWithoutOpenat2(d)} {
			f, err := open(path)
			if err == nil {
				f.Close()
			}
			reader := strings.HasPrefix(name, "reader")
			if refused := IsErrno(err, unix.EXDEV); refused != (mounted && !reader) || err != nil && !refused {
				t.Errorf("%s %s: got %v, mounted: %v", name, path, err, mounted)
			}
		}
	}
}

func TestSplitPath(t *testing.T) {
	for _, c := range []struct{ path, head, tail string }{
		{"a/b/c", "a/b/c", ""},
		{"aaaa/bbbb/cccc", "aaaa", "bbbb/cccc"},
		{"aaaaa/b/c", "aaaaa/b", "c"},
	} {
		if head, tail := splitPath(c.path, 8); head != c.head || tail != c.tail {
			t.Errorf("%s: got %q, %q, want %q, %q", c.path, head, tail, c.head, c.tail)
		}
	}
}

func TestNamesAreSortedByBytes(t *testing.T) {
	dir := t.TempDir()
	want := []string{"-", "A", "a", "a b", "b\n", "\xff"}
	for _, name := range want {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d := mustOpenDir(t, dir)
	for range 2 { // each time from the start
		got, err := d.ListNames(make([]byte, 512))
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
}

func TestData(t *testing.T) {
	d := mustOpenDir(t, t.TempDir())
	f, err := d.OpenAt("f", unix.O_RDWR|unix.O_CREAT, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := errors.Join(f.Truncate(1<<20), f.WriteAt([]byte("x"), 512<<10)); err != nil {
		t.Fatal(err)
	}
	start, end, ok, err := f.NextData(0)
	if err != nil || !ok || start > 512<<10 || end <= 512<<10 || end == 1<<20 {
		t.Errorf("got [%d, %d), %v, %v, want a range around 512 KiB", start, end, ok, err)
	}
	if _, _, ok, err := f.NextData(end); ok || err != nil {
		t.Errorf("in the last hole: got %v, %v, want no range", ok, err)
	}
}

func TestCachedAndMincoreAgree(t *testing.T) {
	d := mustOpenDir(t, t.TempDir())
	f, err := d.OpenAt("f", unix.O_RDWR|unix.O_CREAT, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const size = 40 << 10
	if err := errors.Join(f.WriteAt(bytes.Repeat([]byte("x"), size), 0), f.Sync()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []int64{size, 0} {
		cached, err := f.CachedBytes(0, size)
		pages, mincoreErr := f.countResident(0, size)
		if cached != want || pages*int64(os.Getpagesize()) != want || err != nil || mincoreErr != nil {
			t.Errorf("got cachestat %d bytes, %v, mincore %d pages, %v, want %d bytes", cached, err, pages, mincoreErr, want)
		}
		if err := f.DropCached(0, 0); err != nil {
			t.Fatal(err)
		}
	}
}

func TestXattrs(t *testing.T) {
	d := mustOpenDir(t, t.TempDir())
	if err := os.WriteFile(filepath.Join(d.Path(), "f"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	long := "user." + strings.Repeat("n", 200)
	if err := errors.Join(d.SetXattrAt("f", "user.a", []byte("b\x00c")), d.SetXattrAt("f", long, nil)); err != nil {
		t.Fatal(err)
	}
	for _, scratch := range []int{8, 4096} { // the first is too short for the list
		names, err := d.XattrsAt("f", make([]byte, scratch))
		slices.Sort(names)
		if err != nil || !slices.Equal(names, []string{"user.a", long}) {
			t.Errorf("scratch of %d bytes: got %q, %v, want both names", scratch, names, err)
		}
	}
	if v, err := d.XattrAt("f", "user.a"); string(v) != "b\x00c" || err != nil {
		t.Errorf("got value %q, %v", v, err)
	}
	for range 2 {
		if err := d.RemoveXattrAt("f", "user.a"); err != nil {
			t.Error(err)
		}
	}
}

// tenReads writes ten files in d, and returns reads of them into buf, and their contents.
func tenReads(t *testing.T, d *File, buf []byte) (reads []BatchRead, want []string) {
	t.Helper()
	for i := range 10 {
		name, text := strings.Repeat("f", i+1), strings.Repeat(string(rune('a'+i)), 100*i)
		if err := os.WriteFile(filepath.Join(d.Path(), name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		f := mustOpen(t, d, name, unix.O_RDONLY|unix.O_DIRECT)
		reads, want = append(reads, BatchRead{File: f, Buf: buf[i*Align : (i+1)*Align]}), append(want, text)
	}
	return reads, want
}

// A batch reads the contents of the files, and reports the files that it did not read.
func TestBatch(t *testing.T) {
	d := mustOpenDir(t, t.TempDir())
	b, err := NewBatch(8)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close() // for a test that fails before it closes b
	buf, err := AllocBuffer(16 * Align)
	if err != nil {
		t.Fatal(err)
	}
	defer FreeBuffer(buf)
	reads, want := tenReads(t, d, buf) // two more than fit
	check := func() {
		t.Helper()
		if err := b.Read(reads); err != nil {
			t.Fatal(err)
		}
		for i, r := range reads {
			if i < 8 && (r.N != len(want[i]) || string(r.Buf[:r.N]) != want[i] || r.Err != nil) || i >= 8 && r.N != -1 {
				t.Errorf("read %d: got %d bytes, %v", i, r.N, r.Err)
			}
		}
	}
	check()
	clear(buf)
	check()
	odd := []BatchRead{{File: reads[1].File, Buf: buf[1:100]}} // not aligned: refused, or read through the cache
	if err := b.Read(odd); err != nil || odd[0].Err != nil || (odd[0].N != -1 && odd[0].N != 99) {
		t.Errorf("not aligned: got %d bytes, %v, %v", odd[0].N, odd[0].Err, err)
	}
	if err := errors.Join(b.Close(), b.Close()); err != nil {
		t.Error(err)
	}
	if err := b.Read(reads[:1]); err != nil || reads[0].N != -1 {
		t.Errorf("after Close: got %d bytes, %v, want -1", reads[0].N, err)
	}
	failed := BatchRead{File: reads[0].File}
	failed.N = -1
	if failed.setResult(-int64(unix.EIO)); failed.N != -1 || !IsErrno(failed.Err, unix.EIO) {
		t.Errorf("EIO: got %+v, want it in Err", failed)
	}
}

// The error numbers of block/blk-core.c: which of them are damage of a place?
func TestIsMediaError(t *testing.T) {
	for errno, want := range map[unix.Errno]bool{
		unix.EIO: true, unix.ENODATA: true, unix.EILSEQ: true, unix.ETIMEDOUT: true, unix.EREMOTEIO: true, unix.ENOLINK: true,
		unix.EOPNOTSUPP: false, unix.ENOSPC: false, unix.EBADE: false, unix.ENOMEM: false, unix.EBUSY: false, unix.EAGAIN: false,
		unix.ENODEV: false, unix.EREMCHG: false, unix.ETOOMANYREFS: false, unix.EOVERFLOW: false, unix.ETIME: false, unix.EINVAL: false,
	} {
		err := atOffset(&fs.PathError{Op: "read", Path: "x", Err: errno}, 4096)
		if got := IsMediaError(err); got != want {
			t.Errorf("%v: got %t, want %t", err, got, want)
		}
		var read BatchRead
		read.File = &File{where: place{name: "x"}}
		if read.setResult(-int64(errno)); IsMediaError(read.Err) != want {
			t.Errorf("batch read, %v: got error %v, want media error %t", errno, read.Err, want)
		}
	}
	if IsMediaError(nil) || IsMediaError(errors.New("input/output error")) {
		t.Error("got true without an error number, want false")
	}
}
