package verify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"

	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/tree"
)

var testHeader = Header{
	Tool: "v1 \"quoted\"", Shard: "sh\xff\nard", Root: RootIdentity{7, sys.Time{Sec: -5, Nsec: 9}}, Source: "/a b/\\\n",
	Origin:  SourceIdentity{1 << 60, 2, sys.Time{Sec: 1 << 33, Nsec: 999_999_999}},
	LockDir: "/var/lib/\x01", Time: time.Unix(1_700_000_000, 123).UTC(), Files: 3, Entries: 9, Bytes: 1 << 50,
}

// hostileNames are names that have broken a tool once, or could break the format.
var hostileNames = []string{
	" ", "\n", "\r", "\t", "\\", "\\n", "\"", "'", "-", "--", "...", ". ", "\xff\xfe", "\x01\x7f", "end 1 0000000000000000",
	"f 0644", "ümläut", "u\u0308", "日本", "stdin", strings.Repeat("x", 255), strings.Repeat("\xff", 255),
}

func openState(t testing.TB) *sys.File {
	t.Helper()
	d, err := sys.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// hostileEntries returns a manifest with every kind of record and hostile names.
func hostileEntries() []tree.Record {
	when := sys.Time{Sec: -1, Nsec: 999_999_999}
	records := []tree.Record{{Kind: tree.Dir, Name: ".", Mode: 0o7777, UID: 1, GID: 1<<32 - 1, Mtime: when, Xattrs: 1}}
	names := slices.Sorted(slices.Values(hostileNames))
	for i, name := range names {
		r := tree.Record{Kind: tree.Regular, Name: name, Size: int64(i) + 1, Sum: uint64(i) << 40, Mtime: when}
		switch i % 5 {
		case 1:
			r = tree.Record{Kind: tree.Symlink, Name: name, Target: "../" + name, Mode: 0o777}
		case 2:
			r = tree.Record{Kind: tree.HardLink, Name: name, Target: names[0], Size: 1, Sum: 0}
		case 3:
			r = tree.Record{Kind: tree.Regular, Name: name, Size: 66 * tree.BlockSize}
		case 4:
			r = tree.Record{Kind: tree.Subdir, Name: name}
		}
		records = append(records, r)
		if i%5 == 3 {
			records = append(records, tree.Record{Kind: tree.Sums, Sums: make([]uint64, 64)}, tree.Record{Kind: tree.Sums, Sums: []uint64{1, 1<<64 - 1}})
		}
	}
	for i, name := range names {
		if i%5 == 4 {
			records = append(records, tree.Record{Kind: tree.Dir, Name: name, Path: name, Depth: 1},
				tree.Record{Kind: tree.Regular, Name: name, Path: name})
		}
	}
	return records
}

func writeManifest(t testing.TB, state *sys.File, records []tree.Record) {
	t.Helper()
	w, err := NewManifestWriter(state, &testHeader)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for i := range records {
		if r := &records[i]; r.Kind == tree.Sums {
			err = errors.Join(err, w.WriteSums(r.Sums))
		} else {
			err = errors.Join(err, w.WriteRecord(r, r.Sum))
		}
	}
	if err := errors.Join(err, w.Finish(), w.Close(), w.Commit()); err != nil {
		t.Fatal(err)
	}
}

func TestManifestRoundTrip(t *testing.T) {
	state := openState(t)
	want := hostileEntries()
	writeManifest(t, state, want)
	m, err := OpenManifest(state)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if m.Header != testHeader {
		t.Errorf("got header\n%+v, want\n%+v", m.Header, testHeader)
	}
	i := 0
	err = m.EachRecord(func(r *tree.Record) error {
		got := *r
		got.Sums = slices.Clone(r.Sums)
		if i >= len(want) || fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want[i]) {
			t.Errorf("record %d: got\n%+v, want\n%+v", i, got, want[min(i, len(want)-1)])
		}
		i++
		return nil
	})
	if err != nil || i != len(want) {
		t.Errorf("got %d records, %v, want %d", i, err, len(want))
	}
	if err := m.Check(t.Context()); err != nil {
		t.Error(err)
	}
	stat, err := state.StatAt(ManifestName)
	if err != nil || m.BoundTo(&stat) || !m.BoundTo(&sys.Stat{Ino: 7, Btime: sys.Time{Sec: -5, Nsec: 9}}) ||
		m.BoundTo(&sys.Stat{Ino: 7, Btime: sys.Time{Sec: -5, Nsec: 8}}) {
		t.Errorf("the manifest is not bound to its own root, or is bound to another one (%v)", err)
	}
}

// A manifest that is not committed cannot be opened under its name. A new Writer replaces
// the uncommitted files that a crash has left.
func TestManifestIsCommitted(t *testing.T) {
	state := openState(t)
	for range 2 {
		w, err := NewManifestWriter(state, &testHeader)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(w.Finish(), w.Close()); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenManifest(state); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("not committed: got error %v, want %v", err, fs.ErrNotExist)
		}
		m, err := OpenUncommittedManifest(state)
		if err != nil {
			t.Fatal(err)
		}
		m.Close()
	}
}

// checkManifest opens and checks a manifest, as every caller does before it trusts one.
func checkManifest(state *sys.File) error {
	m, err := OpenManifest(state)
	if err != nil {
		return err
	}
	return errors.Join(m.Check(context.Background()), m.Close())
}

func putManifest(t testing.TB, state *sys.File, text []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(state.Path(), ManifestName), text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// smallManifest writes a manifest of a few lines and returns its text.
func smallManifest(t testing.TB, state *sys.File) []byte {
	t.Helper()
	writeManifest(t, state, []tree.Record{
		{Kind: tree.Dir, Name: "."},
		{Kind: tree.Regular, Name: "a", Size: 5, Sum: 1},
		{Kind: tree.Regular, Name: "b", Size: tree.BlockSize + 1},
		{Kind: tree.Sums, Sums: []uint64{1, 2}},
		{Kind: tree.HardLink, Name: "c", Size: 5, Target: "a"},
		{Kind: tree.Symlink, Name: "d", Target: "a"},
		{Kind: tree.Subdir, Name: "e"},
		{Kind: tree.Dir, Name: "e", Path: "e", Depth: 1},
	})
	text, err := os.ReadFile(filepath.Join(state.Path(), ManifestName))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestEveryFlippedBitOfAManifestIsFound(t *testing.T) {
	state := openState(t)
	text := smallManifest(t, state)
	if err := checkManifest(state); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(state.Path(), ManifestName), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for i := range text {
		for bit := range 8 {
			if _, err := f.WriteAt([]byte{text[i] ^ 1<<bit}, int64(i)); err != nil {
				t.Fatal(err)
			}
			if err := checkManifest(state); !errors.Is(err, ErrManifestDamaged) && !errors.Is(err, ErrManifestVersion) {
				t.Errorf("bit %d of byte %d (%q) flipped: got error %v", bit, i, text[i], err)
			}
		}
		if _, err := f.WriteAt(text[i:i+1], int64(i)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestEveryTruncatedManifestIsFound(t *testing.T) {
	state := openState(t)
	text := smallManifest(t, state)
	for n := range text {
		putManifest(t, state, text[:n])
		if err := checkManifest(state); !errors.Is(err, ErrManifestDamaged) && !errors.Is(err, ErrManifestVersion) {
			t.Errorf("cut at byte %d of %d: got error %v", n, len(text), err)
		}
	}
	putManifest(t, state, append(bytes.Clone(text), '\n'))
	if err := checkManifest(state); !errors.Is(err, ErrManifestDamaged) {
		t.Errorf("with one more line: got error %v", err)
	}
	for _, name := range []string{ManifestName, SumsName} {
		st, err := os.Stat(filepath.Join(state.Path(), name))
		if err != nil || st.Mode() != 0o600 {
			t.Errorf("%s: got mode %v, %v, want 0600", name, st.Mode(), err)
		}
	}
}

// forgeManifest returns a manifest with these lines after a good header, and with the right
// trailer: only the lines can be wrong.
func forgeManifest(lines ...string) []byte {
	var b bytes.Buffer
	b.WriteString("shard_to_ssd manifest 1\n")
	for _, f := range testHeader.encodeFields() {
		fmt.Fprintf(&b, "%s %s\n", f.Key, f.Value)
	}
	b.WriteString("\n")
	for _, line := range lines {
		b.WriteString(line + "\n")
	}
	fmt.Fprintf(&b, "end %d %016x\n", len(lines), xxhash.Sum64(b.Bytes()))
	return b.Bytes()
}

const (
	rootLine = `D 0 0755 0 0 1.000000000 - "."`
	fileLine = `f 0644 0 0 1.000000000 - 5 0000000000000001 `
	longLine = `f 0644 0 0 1.000000000 - 4194305 - "b"`
	sumsLine = `s 0000000000000001 0000000000000002`
)

func TestHostileManifests(t *testing.T) {
	state := openState(t)
	dir := func(depth int, name string) string {
		return fmt.Sprintf(`D %d 0755 0 0 1.000000000 - "%s"`, depth, name)
	}
	good := map[string][]string{
		"a directory":     {rootLine},
		"a file in it":    {rootLine, fileLine + `"a"`},
		"a file":          {fileLine + `"a"`},
		"a large file":    {rootLine, longLine, sumsLine},
		"two directories": {rootLine, `d "a"`, `d "b"`, dir(1, "a"), `d "a"`, dir(2, "a"), dir(1, "b")},
	}
	for name, lines := range good {
		putManifest(t, state, forgeManifest(lines...))
		if err := checkManifest(state); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, lines := range map[string][]string{
		"dot dot":                  {rootLine, fileLine + `".."`},
		"dot":                      {rootLine, fileLine + `"."`},
		"no name":                  {rootLine, fileLine + `""`},
		"slash":                    {rootLine, fileLine + `"a/b"`},
		"absolute":                 {rootLine, fileLine + `"/etc"`},
		"escaped slash":            {rootLine, fileLine + `"..\x2fetc"`},
		"NUL":                      {rootLine, fileLine + `"a\x00"`},
		"long name":                {rootLine, fileLine + `"` + strings.Repeat("x", 256) + `"`},
		"name not quoted":          {rootLine, fileLine + `a`},
		"name not closed":          {rootLine, fileLine + `"a`},
		"name with a bad escape":   {rootLine, fileLine + `"\z"`},
		"subdirectory dot dot":     {rootLine, `d ".."`},
		"directory dot dot":        {rootLine, dir(1, "..")},
		"directory with a slash":   {rootLine, dir(1, "a/b")},
		"hard link to dot dot":     {rootLine, `h 0644 0 0 1.000000000 - 5 "a" "../b"`},
		"hard link to the root":    {rootLine, `h 0644 0 0 1.000000000 - 5 "a" "/b"`},
		"hard link through dot":    {rootLine, `h 0644 0 0 1.000000000 - 5 "a" "b/./c"`},
		"hard link to nothing":     {rootLine, `h 0644 0 0 1.000000000 - 5 "a" ""`},
		"link to nothing":          {rootLine, `l 0777 0 0 1.000000000 - "a" ""`},
		"link with NUL":            {rootLine, `l 0777 0 0 1.000000000 - "a" "b\x00"`},
		"depth jumps":              {rootLine, dir(2, "a")},
		"depth jumps later":        {rootLine, dir(1, "a"), dir(3, "a")},
		"two roots":                {rootLine, rootLine},
		"depth of the root":        {dir(1, ".")},
		"depth is negative":        {rootLine, `D -1 0755 0 0 1.000000000 - "a"`},
		"depth is huge":            {rootLine, dir(1<<31, "a")},
		"root is a link":           {`l 0777 0 0 1.000000000 - "a" "b"`},
		"root is a subdirectory":   {`d "a"`},
		"two files":                {fileLine + `"a"`, fileLine + `"b"`},
		"directory in a file":      {fileLine + `"a"`, rootLine},
		"sums are missing":         {rootLine, longLine},
		"sums are missing, file":   {rootLine, longLine, fileLine + `"c"`},
		"too few sums":             {rootLine, longLine, `s 0000000000000001`},
		"too many sums":            {rootLine, longLine, sumsLine + " 0000000000000003"},
		"sums twice":               {rootLine, longLine, sumsLine, sumsLine},
		"sums of nothing":          {rootLine, sumsLine},
		"sums of a small file":     {rootLine, fileLine + `"a"`, sumsLine},
		"sums of the root":         {sumsLine},
		"no sums":                  {rootLine, longLine, `s`},
		"sum is short":             {rootLine, longLine, `s 0000000000000001 000000000000002`},
		"sum is no number":         {rootLine, longLine, `s 0000000000000001 000000000000000g`},
		"sum in capitals":          {rootLine, longLine, `s 0000000000000001 000000000000000A`},
		"sum where none is":        {rootLine, `f 0644 0 0 1.000000000 - 0 0000000000000001 "a"`},
		"no sum where one is":      {rootLine, `f 0644 0 0 1.000000000 - 5 - "a"`},
		"size is negative":         {rootLine, `f 0644 0 0 1.000000000 - -5 0000000000000001 "a"`},
		"size of all bits":         {rootLine, `f 0644 0 0 1.000000000 - 18446744073709551615 - "a"`},
		"size without end of sums": {rootLine, `f 0644 0 0 1.000000000 - 9223372036854775807 - "a"`},
		"mode":                     {rootLine, `f 17777 0 0 1.000000000 - 5 0000000000000001 "a"`},
		"mode is no number":        {rootLine, `f 0888 0 0 1.000000000 - 5 0000000000000001 "a"`},
		"owner":                    {rootLine, `f 0644 4294967296 0 1.000000000 - 5 0000000000000001 "a"`},
		"time":                     {rootLine, `f 0644 0 0 1 - 5 0000000000000001 "a"`},
		"nanoseconds":              {rootLine, `f 0644 0 0 1.1000000000 - 5 0000000000000001 "a"`},
		"field too many":           {rootLine, fileLine + `"a" "b"`},
		"field too few":            {rootLine, `f 0644`},
		"unknown record":           {rootLine, `x "a"`},
		"long record":              {rootLine, `dir "a"`},
		"empty line":               {rootLine, ``},
		"nothing at all":           {},
	} {
		putManifest(t, state, forgeManifest(lines...))
		if err := checkManifest(state); !errors.Is(err, ErrManifestDamaged) {
			t.Errorf("%s: got error %v, want %v", name, err, ErrManifestDamaged)
		}
	}
}

func TestHostileHeaders(t *testing.T) {
	state := openState(t)
	text := string(forgeManifest(rootLine))
	for _, c := range []struct {
		name, old, new string
		want           error
	}{
		{"another version", "manifest 1\n", "manifest 2\n", ErrManifestVersion},
		{"no version", "manifest 1\n", "manifest \n", ErrManifestVersion},
		{"endless version", "manifest 1\n", "manifest " + strings.Repeat("1", 60_000) + "\n", ErrManifestVersion},
		{"a plan", "shard_to_ssd manifest", "shard_to_ssd plan", ErrManifestDamaged},
		{"block size", "blocksize 4194304", "blocksize 4096", ErrManifestDamaged},
		{"name not quoted", `tool "v1`, `tool v1`, ErrManifestDamaged},
		{"root is no number", "root 7", "root seven", ErrManifestDamaged},
		{"time", "published 2", "published x", ErrManifestDamaged},
		{"totals missing", "totals ", "total ", ErrManifestDamaged},
		{"endless header", "totals ", strings.Repeat("more and more\n", 100) + "totals ", ErrManifestDamaged},
	} {
		changed := strings.Replace(text, c.old, c.new, 1)
		if changed == text {
			t.Fatalf("%s: the header does not have %q", c.name, c.old)
		}
		putManifest(t, state, []byte(changed))
		err := checkManifest(state)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: got error %v, want %v", c.name, err, c.want)
		}
		if err != nil && len(err.Error()) > 2000 {
			t.Errorf("%s: got an error message of %d bytes, want at most 2000", c.name, len(err.Error()))
		}
	}
}

// A line without an end is not read to its end. The files are sparse, and so large that
// reading them would take too long.
func TestEndlessLines(t *testing.T) {
	state := openState(t)
	for name, text := range map[string][]byte{
		"first line":  nil,
		"header":      []byte("shard_to_ssd manifest 1\ntool "),
		"record":      bytes.TrimSuffix(forgeManifest(rootLine), []byte("\n")),
		"quoted name": append(forgeManifest(rootLine)[:len(forgeManifest())-30], "f 0644 0 0 1.000000000 - 5 0000000000000001 \""...),
	} {
		putManifest(t, state, text)
		if err := os.Truncate(filepath.Join(state.Path(), ManifestName), 64<<30); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if err := checkManifest(state); !errors.Is(err, ErrManifestDamaged) {
			t.Errorf("%s: got error %v, want %v", name, err, ErrManifestDamaged)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("%s: the check took %s, want at most 5 s", name, took)
		}
	}
}

func TestWrittenSumLines(t *testing.T) {
	for name, want := range map[string]string{
		"a":         "000000000000002a  ./a\n",
		"stdin":     "000000000000002a  ./stdin\n",
		"-c":        "000000000000002a  ./-c\n",
		"a b/ c":    "000000000000002a  ./a b/ c\n",
		"a\nb\rc\\": `\000000000000002a  ./a\nb\rc\\` + "\n",
		"\xff\t\"":  "000000000000002a  ./\xff\t\"\n",
	} {
		var b bytes.Buffer
		s := newSumsWriter(&b)
		if err := errors.Join(s.writeLine(name, 42), s.flush()); err != nil || b.String() != want {
			t.Errorf("%q: got %q, want %q (%v)", name, b.String(), want, err)
		}
	}
}
