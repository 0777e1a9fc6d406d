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

func openDir(t *testing.T, path string) *File {
	t.Helper()
	d, err := OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() }) //nolint:errcheck // a test's
	return d
}

// Direct I/O of a file that does not end on a block: padded when written, cut,
// and read back at its own length.
func TestDirectTail(t *testing.T) {
	d := openDir(t, t.TempDir())
	f, err := d.OpenAt("f", unix.O_RDWR|unix.O_CREAT|unix.O_DIRECT, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // a test's
	buf, err := Buffer(3 * Align)
	if err != nil {
		t.Fatal(err)
	}
	defer FreeBuffer(buf) //nolint:errcheck // a test's
	const size = 2*Align + 77
	for i := range size {
		buf[i] = byte(i * 7)
	}
	want := bytes.Clone(buf[:size])
	if err := errors.Join(f.WriteAt(buf, 0), f.Truncate(size)); err != nil {
		t.Fatal(err)
	}
	clear(buf)
	for range 2 { // also asking for more than there is
		if n, err := f.ReadAt(buf, len(buf), 0); n != size || err != nil || !bytes.Equal(buf[:size], want) {
			t.Errorf("got %d bytes, %v, wanted %d", n, err, size)
		}
	}
	if n, err := f.ReadAt(buf, 10, 4*Align); n != 0 || err != nil {
		t.Errorf("beyond the end: got %d, %v", n, err)
	}
}

func TestErrorsNameOperationAndPath(t *testing.T) {
	dir := t.TempDir()
	d := openDir(t, dir)
	_, err := d.OpenAt("missing", unix.O_RDONLY, 0)
	var at *fs.PathError
	if !errors.As(err, &at) || at.Op != "open" || at.Path != filepath.Join(dir, "missing") || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if !NoSpace(&fs.PathError{Op: "write", Err: unix.EDQUOT}) || NoSpace(&fs.PathError{Op: "set xattr user.a of", Err: unix.ENOSPC}) {
		t.Error("NoSpace takes a full quota for space, or a large attribute for none")
	}
}

func TestNothingFollowsLinks(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(os.MkdirAll(dir+"/real/below", 0o755), os.Symlink("real", dir+"/link"),
		os.WriteFile(dir+"/real/f", nil, 0o600), os.Symlink("real/f", dir+"/flink")); err != nil {
		t.Fatal(err)
	}
	d := openDir(t, dir)
	for _, path := range []string{"link", "link/below"} {
		for name, open := range map[string]func(string) (*File, error){"openat2": d.OpenBelow, "stepwise": stepwise(d)} {
			if f, err := open(path); !Is(err, unix.ELOOP, unix.ENOTDIR) {
				t.Errorf("%s %s: got %v, %v", name, path, f, err)
			}
		}
	}
	if _, err := d.OpenAt("flink", unix.O_RDONLY, 0); !Is(err, unix.ELOOP) {
		t.Errorf("open flink: got %v", err)
	}
	for name, open := range map[string]func(string) (*File, error){"openat2": d.OpenBelow, "stepwise": stepwise(d)} {
		f, err := open("real/below")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		f.Close() //nolint:errcheck // a test's
	}
	if s, err := d.StatAt("link"); err != nil || !s.IsSymlink() {
		t.Errorf("stat of link: %+v, %v", s, err)
	}
}

// stepwise is OpenBelow where there is no openat2.
func stepwise(d *File) func(string) (*File, error) {
	return func(rel string) (*File, error) { return d.openStepwise(rel, unix.RESOLVE_NO_SYMLINKS) }
}

// Who deletes enters no mount, also one of the same file system, or of a directory on
// what is in it; who reads does.
func TestOnlyReadersEnterMounts(t *testing.T) {
	testkit.NeedRoot(t)
	dir := t.TempDir()
	if err := errors.Join(os.MkdirAll(dir+"/bound/below", 0o755), os.MkdirAll(dir+"/tmpfs", 0o755), os.MkdirAll(dir+"/plain/cycle", 0o755)); err != nil {
		t.Fatal(err)
	}
	for to, from := range map[string]string{"/bound": "/plain", "/tmpfs": "tmpfs", "/plain/cycle": "/plain"} {
		kind, flags, what := "", uintptr(unix.MS_BIND), dir+from
		if from == "tmpfs" {
			kind, flags, what = "tmpfs", 0, from
		}
		if err := unix.Mount(what, dir+to, kind, flags, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Unmount(dir+to, unix.MNT_DETACH) }) //nolint:errcheck // a test's
	}
	d := openDir(t, dir)
	within := func(rel string) (*File, error) {
		return d.openStepwise(rel, unix.RESOLVE_NO_SYMLINKS|unix.RESOLVE_NO_XDEV)
	}
	for path, mounted := range map[string]bool{".": false, "plain": false, "bound": true, "bound/cycle": true, "tmpfs": true, "plain/cycle": true} {
		for name, open := range map[string]func(string) (*File, error){"openat2": d.OpenWithin, "stepwise": within, "reader": d.OpenBelow, "reader, stepwise": stepwise(d)} {
			f, err := open(path)
			if err == nil {
				f.Close() //nolint:errcheck // a test's
			}
			reader := strings.HasPrefix(name, "reader")
			if refused := Is(err, unix.EXDEV); refused != (mounted && !reader) || err != nil && !refused {
				t.Errorf("%s %s: got %v", name, path, err)
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
			t.Errorf("%s: got %q, %q", c.path, head, tail)
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
	d := openDir(t, dir)
	for range 2 { // from the start each time
		got, err := d.Names(make([]byte, 512))
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("got %q, %v, wanted %q", got, err, want)
		}
	}
}

func TestData(t *testing.T) {
	d := openDir(t, t.TempDir())
	f, err := d.OpenAt("f", unix.O_RDWR|unix.O_CREAT, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // a test's
	if err := errors.Join(f.Truncate(1<<20), f.WriteAt([]byte("x"), 512<<10)); err != nil {
		t.Fatal(err)
	}
	start, end, ok, err := f.Data(0)
	if err != nil || !ok || start > 512<<10 || end <= 512<<10 || end == 1<<20 {
		t.Errorf("got [%d, %d), %v, %v", start, end, ok, err)
	}
	if _, _, ok, err := f.Data(end); ok || err != nil {
		t.Errorf("last hole: got %v, %v", ok, err)
	}
}

func TestCachedAndMincoreAgree(t *testing.T) {
	d := openDir(t, t.TempDir())
	f, err := d.OpenAt("f", unix.O_RDWR|unix.O_CREAT, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // a test's
	const size = 40 << 10
	if err := errors.Join(f.WriteAt(bytes.Repeat([]byte("x"), size), 0), f.Sync()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []int64{size, 0} {
		cached, err := f.Cached(0, size)
		pages, mincoreErr := f.mincore(0, size)
		if cached != want || pages*int64(os.Getpagesize()) != want || err != nil || mincoreErr != nil {
			t.Errorf("wanted %d bytes: cachestat %d, %v, mincore %d pages, %v", want, cached, err, pages, mincoreErr)
		}
		if err := f.Forget(0, 0); err != nil {
			t.Fatal(err)
		}
	}
}

func TestXattrs(t *testing.T) {
	d := openDir(t, t.TempDir())
	if err := os.WriteFile(filepath.Join(d.Path(), "f"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	long := "user." + strings.Repeat("n", 200)
	if err := errors.Join(d.SetXattrAt("f", "user.a", []byte("b\x00c")), d.SetXattrAt("f", long, nil)); err != nil {
		t.Fatal(err)
	}
	for _, scratch := range []int{8, 4096} { // too short for the list, and not
		names, err := d.XattrsAt("f", make([]byte, scratch))
		slices.Sort(names)
		if err != nil || !slices.Equal(names, []string{"user.a", long}) {
			t.Errorf("scratch of %d: got %q, %v", scratch, names, err)
		}
	}
	if v, err := d.XattrAt("f", "user.a"); string(v) != "b\x00c" || err != nil {
		t.Errorf("got %q, %v", v, err)
	}
	for range 2 {
		if err := d.RemoveXattrAt("f", "user.a"); err != nil {
			t.Error(err)
		}
	}
}

// What a batch reads is what is there; what it cannot read it says.
func TestBatch(t *testing.T) {
	d := openDir(t, t.TempDir())
	b, err := NewBatch(8)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close() //nolint:errcheck // closed below
	buf, err := Buffer(16 * Align)
	if err != nil {
		t.Fatal(err)
	}
	defer FreeBuffer(buf) //nolint:errcheck // a test's
	var reads []Read
	var want []string
	for i := range 10 { // two more than fit
		name, text := strings.Repeat("f", i+1), strings.Repeat(string(rune('a'+i)), 100*i)
		if err := os.WriteFile(filepath.Join(d.Path(), name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := d.OpenAt(name, unix.O_RDONLY|unix.O_DIRECT, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close() //nolint:errcheck // opened for reading
		reads, want = append(reads, Read{File: f, Buf: buf[i*Align : (i+1)*Align]}), append(want, text)
	}
	check := func() {
		t.Helper()
		if err := b.Read(reads); err != nil {
			t.Fatal(err)
		}
		for i, r := range reads {
			if i < 8 && (r.N != len(want[i]) || string(r.Buf[:r.N]) != want[i] || r.Err != nil) || i >= 8 && r.N != -1 {
				t.Errorf("read %d: %d bytes, %v", i, r.N, r.Err)
			}
		}
	}
	check()
	clear(buf)
	check()
	odd := []Read{{File: reads[1].File, Buf: buf[1:100]}} // not aligned: refused, or read through the cache
	if err := b.Read(odd); err != nil || odd[0].Err != nil || (odd[0].N != -1 && odd[0].N != 99) {
		t.Errorf("not aligned: %d, %v, %v", odd[0].N, odd[0].Err, err)
	}
	if err := errors.Join(b.Close(), b.Close()); err != nil {
		t.Error(err)
	}
	if err := b.Read(reads[:1]); err != nil || reads[0].N != -1 {
		t.Errorf("after Close: %d, %v", reads[0].N, err)
	}
	failed := Read{File: reads[0].File}
	failed.N = -1
	if failed.take(-int64(unix.EIO)); failed.N != -1 || !Is(failed.Err, unix.EIO) {
		t.Errorf("EIO: %+v", failed)
	}
}
