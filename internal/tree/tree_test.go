package tree

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/cespare/xxhash/v2"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/testkit"
)

// hostile are names that a line or a path could break on.
var hostile = []string{"a", " ", "a b", "\n", "\r", "\\", "\"", "-", "stdin", "\xff\xfe", "\x01", "é", "�", "end 1", strings.Repeat("x", 255)}

func records(plan bool) []Record {
	meta := func(r Record) Record {
		r.Mode, r.UID, r.GID = 0o4755, 1<<32-1, 7
		r.Mtime = sys.Time{Sec: -5, Nsec: 999_999_999}
		r.Xattrs = 42
		if plan {
			r.Source = Source{Ino: 1<<64 - 1, Ctime: sys.Time{Sec: 1 << 40, Nsec: 1}, Atime: sys.Time{Nsec: 7}, Blocks: 8}
		}
		return r
	}
	out := []Record{meta(Record{Kind: Dir, Name: "."}), meta(Record{Kind: Regular, Name: "big", Size: 65*BlockSize + 1})}
	if !plan {
		sums := make([]uint64, 66)
		for i := range sums {
			sums[i] = uint64(i) << 50
		}
		out = append(out, Record{Kind: Sums, Sums: sums[:64]}, Record{Kind: Sums, Sums: sums[64:]})
	}
	dirs := []string{"d", "f", "h", "l"} // of directories, files, hard links, links
	for _, name := range dirs {
		out = append(out, Record{Kind: Subdir, Name: name})
	}
	for _, dir := range dirs {
		out = append(out, meta(Record{Kind: Dir, Name: dir, Path: dir, Depth: 1}))
		for i, name := range slices.Sorted(slices.Values(hostile)) {
			r := Record{Kind: Kind(dir[0]), Name: name, Path: dir}
			switch r.Kind {
			case Subdir:
				out = append(out, r)
				continue
			case Regular:
				if r.Size = int64(i); !plan && i > 0 {
					r.Sum = uint64(i)
				}
			case HardLink:
				r.Size, r.Target = 3, "f/"+name
			case Symlink:
				r.Target = "../" + name
			}
			out = append(out, meta(r))
		}
		for _, name := range slices.Sorted(slices.Values(hostile)) {
			if dir == "d" {
				out = append(out, meta(Record{Kind: Dir, Name: name, Path: "d/" + name, Depth: 2}))
			}
		}
	}
	return out
}

func encode(t *testing.T, kind string, records []Record) []byte {
	t.Helper()
	var b bytes.Buffer
	e, err := NewEncoder(&b, kind, 1, []Field{{"key", "some value"}})
	for i := 0; err == nil && i < len(records); i++ {
		err = e.Write(&records[i])
	}
	if err == nil {
		err = e.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func decode(kind string, b []byte) (records []Record, err error) {
	d, err := NewDecoder(bytes.NewReader(b), kind, 1)
	for err == nil {
		var r *Record
		if r, err = d.Next(); err == nil {
			c := *r
			c.Sums = append([]uint64(nil), r.Sums...)
			records = append(records, c)
		}
	}
	if err == io.EOF {
		err = nil
	}
	return records, err
}

func TestRoundTrip(t *testing.T) {
	for _, kind := range []string{PlanKind, ManifestKind} {
		want := records(kind == PlanKind)
		got, err := decode(kind, encode(t, kind, want))
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", kind, err, diff)
		}
	}
}

// sub are the records that name directories, opened those that open them.
func sub(names ...string) (lines string) {
	for _, name := range names {
		lines += fmt.Sprintf("d %q\n", name)
	}
	return lines
}

func opened(depth int, names ...string) (lines string) {
	for _, name := range names {
		lines += fmt.Sprintf("D %d 0755 0 0 1.000000000 - %q\n", depth, name)
	}
	return lines
}

// sealed is a stream with the end that fits what is before it.
func sealed(body string) string {
	_, records, _ := strings.Cut(body, "\n\n")
	return fmt.Sprintf("%send %d %016x\n", body, strings.Count(records, "\n"), xxhash.Sum64String(body))
}

func TestDecoderRefuses(t *testing.T) {
	head := "shard_to_ssd manifest 1\n\n"
	dir, file := `D 0 0755 0 0 1.000000000 - "."`+"\n", `f 0644 0 0 1.000000000 - 0 - `
	for name, stream := range map[string]string{
		"nothing":          "",
		"another kind":     "shard_to_ssd plan 1\n\n",
		"no end":           head + dir,
		"wrong count":      head + dir + "end 2 0000000000000000\n",
		"parent":           head + dir + file + `".."` + "\n",
		"slash":            head + dir + file + `"a/b"` + "\n",
		"absolute":         head + dir + file + `"/a"` + "\n",
		"NUL":              head + dir + file + `"a\x00"` + "\n",
		"long name":        head + dir + file + `"` + strings.Repeat("n", 256) + `"` + "\n",
		"link to parent":   head + dir + `h 0644 0 0 1.000000000 - 0 "a" "../b"` + "\n",
		"depth jump":       head + dir + `D 2 0755 0 0 1.000000000 - "x"` + "\n",
		"second root":      head + dir + dir,
		"file after file":  head + strings.Repeat(`f 0644 0 0 1.000000000 - 0 - "a"`+"\n", 2),
		"link as root":     head + `l 0777 0 0 1.000000000 - "a" "b"` + "\n",
		"negative size":    head + dir + `f 0644 0 0 1.000000000 - -1 - "a"` + "\n",
		"huge mode":        head + dir + `f 0177777 0 0 1.000000000 - 0 - "a"` + "\n",
		"sums of nothing":  head + dir + "s 0000000000000000\n",
		"sum too short":    head + dir + `f 0644 0 0 1.000000000 - 1 00 "a"` + "\n",
		"sum not expected": head + dir + `f 0644 0 0 1.000000000 - 0 0000000000000000 "a"` + "\n",
		"long line":        head + dir + file + `"` + strings.Repeat("n", MaxLine) + `"` + "\n",
		"long header":      "shard_to_ssd manifest 1\n" + strings.Repeat("k v\n", maxHeader+1) + "\n",
		"more fields":      head + dir + file + `"a" "b"` + "\n",
		"bad escape":       head + dir + file + `"\q"` + "\n",
		"open quote":       head + dir + file + `"a` + "\n",
		"order":            head + dir + sub("b", "a") + opened(1, "b", "a"),
		"twice":            head + dir + sub("a", "a") + opened(1, "a", "a"),
		"file and dir":     head + dir + `f 0644 0 0 1.000000000 - 0 - "a"` + "\n" + sub("a") + opened(1, "a"),
		"opened, unnamed":  head + dir + opened(1, "a"),
		"named, unopened":  head + dir + sub("a"),
		"one more opened":  head + dir + sub("a") + opened(1, "a", "b"),
		"one less opened":  head + dir + sub("a", "b") + opened(1, "a"),
		"opened twice":     head + dir + sub("a") + opened(1, "a", "a"),
		"other order":      head + dir + sub("a", "b") + opened(1, "b", "a"),
		"named elsewhere":  head + dir + sub("a", "b") + opened(1, "a") + sub("c") + opened(1, "b") + opened(2, "c"),
		"unnamed below":    head + dir + sub("a", "b") + opened(1, "a") + opened(2, "c") + opened(1, "b"),
	} {
		if name != "no end" && name != "wrong count" { // nothing else is wrong
			stream = sealed(stream)
		}
		if got, err := decode(ManifestKind, []byte(stream)); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: got %d records, %v, wanted %v", name, len(got), err, ErrDamaged)
		}
	}
	whole := sealed(head + dir + sub("a", "b") + opened(1, "a") + sub("a") + opened(2, "a") + opened(1, "b"))
	if got, err := decode(ManifestKind, []byte(whole)); err != nil || len(got) != 7 {
		t.Errorf("whole: got %d records, %v", len(got), err)
	}
	if _, err := decode(ManifestKind, []byte("shard_to_ssd manifest 2\n\n")); !errors.Is(err, ErrVersion) {
		t.Errorf("version 2: got %v, wanted %v", err, ErrVersion)
	}
}

// Every bit that flips and every byte that is cut off shows at the end.
func TestDamageShows(t *testing.T) {
	whole := encode(t, ManifestKind, records(false))
	for i := range whole {
		if _, err := decode(ManifestKind, whole[:i]); err == nil {
			t.Fatalf("cut at byte %d of %d: no error", i, len(whole))
		}
		flipped := bytes.Clone(whole)
		flipped[i] ^= 1 << (i % 8)
		if _, err := decode(ManifestKind, flipped); err == nil {
			t.Fatalf("bit %d of byte %d flipped: no error", i%8, i)
		}
	}
	if _, err := decode(ManifestKind, append(bytes.Clone(whole), 'x')); err == nil {
		t.Error("a byte after the end: no error")
	}
}

// An error of reading is told wherever it comes, also where only the end of the
// file is left.
func TestDecoderTellsErrorsOfReading(t *testing.T) {
	whole := encode(t, ManifestKind, records(false))
	failed := errors.New("failed to read")
	for i := range len(whole) + 1 {
		in := io.MultiReader(bytes.NewReader(whole[:i]), iotest.ErrReader(failed))
		d, err := NewDecoder(in, ManifestKind, 1)
		for err == nil {
			_, err = d.Next()
		}
		if !errors.Is(err, failed) {
			t.Fatalf("after byte %d of %d: got %v", i, len(whole), err)
		}
	}
}

func TestRemove(t *testing.T) {
	top := t.TempDir()
	outside := filepath.Join(top, "outside")
	if err := os.WriteFile(outside, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for i := range 30 {
		d := filepath.Join(top, "tree", fmt.Sprint(i%3), fmt.Sprint(i), "below")
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.WriteFile(filepath.Join(d, "f"), nil, 0o400), os.Symlink(top, filepath.Join(d, "l")), os.Chmod(d, 0o555)); err != nil {
			t.Fatal(err)
		}
	}
	d := deepen(t, filepath.Join(top, "tree"), 60, strings.Repeat("d", 200)) // beyond PATH_MAX
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	dir, err := sys.OpenDir(top)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close() //nolint:errcheck // opened for reading
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Remove(cancelled, dir, "tree", 4); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
	for range 2 { // the second time it is gone already
		if err := Remove(t.Context(), dir, "tree", 4); err != nil {
			t.Error(err)
		}
	}
	left, err := dir.Names(make([]byte, 4096))
	if err != nil || len(left) != 1 || left[0] != "outside" {
		t.Errorf("left: %q, %v, wanted only what is outside", left, err)
	}
}

// A file that may not be deleted is an error that says so, not that it is no
// directory.
func TestRemoveOfAnImmutableFile(t *testing.T) {
	testkit.Need(t, "chattr")
	top := testkit.Mount(t, "ext4", 8<<20)
	stays := filepath.Join(top, "tree", "stays")
	if err := errors.Join(os.Mkdir(filepath.Dir(stays), 0o755), os.WriteFile(stays, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	testkit.Command(t, "chattr", "+i", stays)
	dir, err := sys.OpenDir(top)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close() //nolint:errcheck // opened for reading
	var at *fs.PathError
	err = Remove(t.Context(), dir, "tree", 1)
	if !errors.As(err, &at) || at.Op != "unlink" || at.Path != stays || at.Err != unix.EPERM {
		t.Errorf("got %v, wanted that %s may not be unlinked", err, stays)
	}
	testkit.Command(t, "chattr", "-i", stays)
	if err := Remove(t.Context(), dir, "tree", 1); err != nil {
		t.Error(err)
	}
}

// deepen makes depth directories in each other and returns the last.
func deepen(t *testing.T, top string, depth int, name string) *sys.File {
	t.Helper()
	d, err := sys.OpenDir(top)
	for range depth {
		if err == nil {
			err = d.MkdirAt(name, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
		var next *sys.File
		if next, err = d.OpenDirAt(name); err == nil {
			err = d.Close()
			d = next
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestXattrDigest(t *testing.T) {
	digests := map[uint64]string{0: "none"}
	for name, attrs := range map[string][]Xattr{
		"one":           {{"user.a", []byte("b")}},
		"another value": {{"user.a", []byte("c")}},
		"another name":  {{"user.b", []byte("b")}},
		"empty value":   {{"user.a", nil}},
		"shifted":       {{"user.ab", nil}},
		"two":           {{"user.a", []byte("b")}, {"user.b", nil}},
	} {
		sum := DigestXattrs(attrs)
		if other, met := digests[sum]; met {
			t.Errorf("%s and %s have the same digest", name, other)
		}
		digests[sum] = name
	}
}

func TestIdentityIgnoresWhatNobodyChanged(t *testing.T) {
	identity := func(change func(*Record)) uint64 {
		e, err := NewEncoder(io.Discard, PlanKind, 1, nil)
		for _, r := range records(true) {
			if change(&r); err == nil {
				err = e.Write(&r)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		return e.Identity()
	}
	same := identity(func(*Record) {})
	for name, c := range map[string]struct {
		change func(*Record)
		want   bool
	}{
		"atime":  {func(r *Record) { r.Source.Atime.Sec += 1000 }, true},
		"blocks": {func(r *Record) { r.Source.Blocks += 8 }, true},
		"ctime":  {func(r *Record) { r.Source.Ctime.Nsec++ }, false},
		"mtime":  {func(r *Record) { r.Mtime.Nsec-- }, false},
		"inode":  {func(r *Record) { r.Source.Ino-- }, false},
		"size":   {func(r *Record) { r.Size++ }, false},
	} {
		if got := identity(c.change) == same; got != c.want {
			t.Errorf("%s: same %v, wanted %v", name, got, c.want)
		}
	}
}
