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

// hostileNames are names that could break the parsing of a line or a path.
var hostileNames = []string{"a", " ", "a b", "\n", "\r", "\\", "\"", "-", "stdin", "\xff\xfe", "\x01", "é", "�", "end 1", strings.Repeat("x", 255)}

func testRecords(plan bool) []Record {
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
	dirs := []string{"d", "f", "h", "l"} // hold directories, files, hard links, symbolic links
	for _, name := range dirs {
		out = append(out, Record{Kind: Subdir, Name: name})
	}
	for _, dir := range dirs {
		out = append(out, meta(Record{Kind: Dir, Name: dir, Path: dir, Depth: 1}))
		for i, name := range slices.Sorted(slices.Values(hostileNames)) {
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
		for _, name := range slices.Sorted(slices.Values(hostileNames)) {
			if dir == "d" {
				out = append(out, meta(Record{Kind: Dir, Name: name, Path: "d/" + name, Depth: 2}))
			}
		}
	}
	return out
}

func mustEncode(t *testing.T, kind string, records []Record) []byte {
	t.Helper()
	var b bytes.Buffer
	e, err := NewEncoder(&b, kind, 1, []Field{{"key", "some value"}})
	for i := 0; err == nil && i < len(records); i++ {
		err = e.Write(&records[i])
	}
	if err := errors.Join(err, e.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func decodeAll(kind string, b []byte) (records []Record, err error) {
	d, err := NewDecoder(bytes.NewReader(b), kind, 1)
	if err != nil {
		return nil, err
	}
	for {
		r, err := d.Next()
		if err == io.EOF {
			return records, nil
		}
		if err != nil {
			return records, err
		}
		c := *r
		c.Sums = append([]uint64(nil), r.Sums...)
		records = append(records, c)
	}
}

func TestRoundTrip(t *testing.T) {
	for _, kind := range []string{PlanKind, ManifestKind} {
		want := testRecords(kind == PlanKind)
		got, err := decodeAll(kind, mustEncode(t, kind, want))
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", kind, err, diff)
		}
	}
}

// subdirLines returns the records that name directories.
func subdirLines(names ...string) (lines string) {
	for _, name := range names {
		lines += fmt.Sprintf("d %q\n", name)
	}
	return lines
}

// dirLines returns the records that open directories.
func dirLines(depth int, names ...string) (lines string) {
	for _, name := range names {
		lines += fmt.Sprintf("D %d 0755 0 0 1.000000000 - %q\n", depth, name)
	}
	return lines
}

// withTrailer appends the correct last line to a stream.
func withTrailer(body string) string {
	_, records, _ := strings.Cut(body, "\n\n")
	return fmt.Sprintf("%send %d %016x\n", body, strings.Count(records, "\n"), xxhash.Sum64String(body))
}

// The start of a manifest, its root directory, and the start of a file's record.
const (
	streamHead = "shard_to_ssd manifest 1\n\n"
	rootLine   = `D 0 0755 0 0 1.000000000 - "."` + "\n"
	fileLine   = `f 0644 0 0 1.000000000 - 0 - `
)

// damagedStreams returns streams that the Decoder refuses. The test adds a correct last
// line to all of them except "no end" and "wrong count".
func damagedStreams() map[string]string {
	return map[string]string{
		"nothing":          "",
		"another kind":     "shard_to_ssd plan 1\n\n",
		"no end":           streamHead + rootLine,
		"wrong count":      streamHead + rootLine + "end 2 0000000000000000\n",
		"parent":           streamHead + rootLine + fileLine + `".."` + "\n",
		"slash":            streamHead + rootLine + fileLine + `"a/b"` + "\n",
		"absolute":         streamHead + rootLine + fileLine + `"/a"` + "\n",
		"NUL":              streamHead + rootLine + fileLine + `"a\x00"` + "\n",
		"long name":        streamHead + rootLine + fileLine + `"` + strings.Repeat("n", 256) + `"` + "\n",
		"link to parent":   streamHead + rootLine + `h 0644 0 0 1.000000000 - 0 "a" "../b"` + "\n",
		"depth jump":       streamHead + rootLine + `D 2 0755 0 0 1.000000000 - "x"` + "\n",
		"second root":      streamHead + rootLine + rootLine,
		"file after file":  streamHead + strings.Repeat(`f 0644 0 0 1.000000000 - 0 - "a"`+"\n", 2),
		"link as root":     streamHead + `l 0777 0 0 1.000000000 - "a" "b"` + "\n",
		"negative size":    streamHead + rootLine + `f 0644 0 0 1.000000000 - -1 - "a"` + "\n",
		"huge mode":        streamHead + rootLine + `f 0177777 0 0 1.000000000 - 0 - "a"` + "\n",
		"sums of nothing":  streamHead + rootLine + "s 0000000000000000\n",
		"sum too short":    streamHead + rootLine + `f 0644 0 0 1.000000000 - 1 00 "a"` + "\n",
		"sum not expected": streamHead + rootLine + `f 0644 0 0 1.000000000 - 0 0000000000000000 "a"` + "\n",
		"long line":        streamHead + rootLine + fileLine + `"` + strings.Repeat("n", MaxLine) + `"` + "\n",
		"long header":      "shard_to_ssd manifest 1\n" + strings.Repeat("k v\n", maxHeader+1) + "\n",
		"more fields":      streamHead + rootLine + fileLine + `"a" "b"` + "\n",
		"bad escape":       streamHead + rootLine + fileLine + `"\q"` + "\n",
		"open quote":       streamHead + rootLine + fileLine + `"a` + "\n",
		"order":            streamHead + rootLine + subdirLines("b", "a") + dirLines(1, "b", "a"),
		"twice":            streamHead + rootLine + subdirLines("a", "a") + dirLines(1, "a", "a"),
		"file and dir":     streamHead + rootLine + `f 0644 0 0 1.000000000 - 0 - "a"` + "\n" + subdirLines("a") + dirLines(1, "a"),
		"opened, unnamed":  streamHead + rootLine + dirLines(1, "a"),
		"named, unopened":  streamHead + rootLine + subdirLines("a"),
		"one more opened":  streamHead + rootLine + subdirLines("a") + dirLines(1, "a", "b"),
		"one less opened":  streamHead + rootLine + subdirLines("a", "b") + dirLines(1, "a"),
		"opened twice":     streamHead + rootLine + subdirLines("a") + dirLines(1, "a", "a"),
		"other order":      streamHead + rootLine + subdirLines("a", "b") + dirLines(1, "b", "a"),
		"named elsewhere":  streamHead + rootLine + subdirLines("a", "b") + dirLines(1, "a") + subdirLines("c") + dirLines(1, "b") + dirLines(2, "c"),
		"unnamed below":    streamHead + rootLine + subdirLines("a", "b") + dirLines(1, "a") + dirLines(2, "c") + dirLines(1, "b"),
	}
}

func TestDecoderRefuses(t *testing.T) {
	for name, stream := range damagedStreams() {
		if name != "no end" && name != "wrong count" { // the last line is not the fault
			stream = withTrailer(stream)
		}
		if got, err := decodeAll(ManifestKind, []byte(stream)); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: got %d records, %v, want %v", name, len(got), err, ErrDamaged)
		}
	}
	whole := withTrailer(streamHead + rootLine + subdirLines("a", "b") + dirLines(1, "a") + subdirLines("a") + dirLines(2, "a") + dirLines(1, "b"))
	if got, err := decodeAll(ManifestKind, []byte(whole)); err != nil || len(got) != 7 {
		t.Errorf("complete stream: got %d records, %v, want 7", len(got), err)
	}
	if _, err := decodeAll(ManifestKind, []byte("shard_to_ssd manifest 2\n\n")); !errors.Is(err, ErrVersion) {
		t.Errorf("version 2: got %v, want %v", err, ErrVersion)
	}
}

// The Decoder reports every flipped bit and every missing byte, at the latest at the end.
func TestDamageShows(t *testing.T) {
	whole := mustEncode(t, ManifestKind, testRecords(false))
	for i := range whole {
		if _, err := decodeAll(ManifestKind, whole[:i]); err == nil {
			t.Fatalf("cut at byte %d of %d: got no error", i, len(whole))
		}
		flipped := bytes.Clone(whole)
		flipped[i] ^= 1 << (i % 8)
		if _, err := decodeAll(ManifestKind, flipped); err == nil {
			t.Fatalf("bit %d of byte %d flipped: got no error", i%8, i)
		}
	}
	if _, err := decodeAll(ManifestKind, append(bytes.Clone(whole), 'x')); err == nil {
		t.Error("a byte after the end: got no error")
	}
}

// The Decoder reports a read error at any place, even at the end of the file.
func TestDecoderReportsReadErrors(t *testing.T) {
	whole := mustEncode(t, ManifestKind, testRecords(false))
	failed := errors.New("failed to read")
	for i := range len(whole) + 1 {
		in := io.MultiReader(bytes.NewReader(whole[:i]), iotest.ErrReader(failed))
		d, err := NewDecoder(in, ManifestKind, 1)
		for err == nil {
			_, err = d.Next()
		}
		if !errors.Is(err, failed) {
			t.Fatalf("after byte %d of %d: got %v, want %v", i, len(whole), err, failed)
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
	d := makeDeepDirs(t, filepath.Join(top, "tree"), 60, strings.Repeat("d", 200)) // beyond PATH_MAX
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	dir, err := sys.OpenDir(top)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := RemoveTree(cancelled, dir, "tree", 4); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v, want %v", err, context.Canceled)
	}
	for range 2 { // the second time the tree is already missing
		if err := RemoveTree(t.Context(), dir, "tree", 4); err != nil {
			t.Error(err)
		}
	}
	left, err := dir.ListNames(make([]byte, 4096))
	if err != nil || len(left) != 1 || left[0] != "outside" {
		t.Errorf("left: got %q, %v, want only \"outside\"", left, err)
	}
}

// The error of a file that must not be deleted says so. It does not say that the file is
// not a directory.
func TestRemoveOfAnImmutableFile(t *testing.T) {
	testkit.RequireTools(t, "chattr")
	top := testkit.Mount(t, "ext4", 8<<20)
	stays := filepath.Join(top, "tree", "stays")
	if err := errors.Join(os.Mkdir(filepath.Dir(stays), 0o755), os.WriteFile(stays, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	testkit.RunCommand(t, "chattr", "+i", stays)
	dir, err := sys.OpenDir(top)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	var at *fs.PathError
	err = RemoveTree(t.Context(), dir, "tree", 1)
	if !errors.As(err, &at) || at.Op != "unlink" || at.Path != stays || at.Err != unix.EPERM {
		t.Errorf("got %v, want EPERM of unlink %s", err, stays)
	}
	testkit.RunCommand(t, "chattr", "-i", stays)
	if err := RemoveTree(t.Context(), dir, "tree", 1); err != nil {
		t.Error(err)
	}
}

// makeDeepDirs makes a chain of depth directories and returns the last.
func makeDeepDirs(t *testing.T, top string, depth int, name string) *sys.File {
	t.Helper()
	d, err := sys.OpenDir(top)
	if err != nil {
		t.Fatal(err)
	}
	for range depth {
		if err := d.MkdirAt(name, 0o755); err != nil {
			t.Fatal(err)
		}
		next, err := d.OpenDirAt(name)
		if err != nil {
			t.Fatal(err)
		}
		d.Close()
		d = next
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

func TestIdentityIgnoresAtimeAndBlocks(t *testing.T) {
	identity := func(change func(*Record)) uint64 {
		e, err := NewEncoder(io.Discard, PlanKind, 1, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range testRecords(true) {
			change(&r)
			if err := e.Write(&r); err != nil {
				t.Fatal(err)
			}
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
			t.Errorf("change of %s: got same identity %v, want %v", name, got, c.want)
		}
	}
}
