package verify

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/tree"
)

// documentedBlock returns docs/on-disk.md and its code block of a kind.
func documentedBlock(t *testing.T, kind string) (page, block string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "docs", "on-disk.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, block, begun := strings.Cut(string(text), "```"+kind+"\n")
	block, _, ended := strings.Cut(block, "```")
	if !begun || !ended {
		t.Fatalf("docs/on-disk.md has no code block %s", kind)
	}
	return string(text), block
}

// The manifest in the documentation equals the one that is written for such a shard, letter
// for letter, and it can be read.
func TestDocumentedManifest(t *testing.T) {
	page, want := documentedBlock(t, "manifest")
	state := openState(t)
	w, err := NewManifestWriter(state, &Header{
		Tool: "v1.2.3", Shard: "shard2", Root: RootIdentity{10125729, sys.Time{Sec: 1795567063, Nsec: 683868250}}, Source: "/data/shard2",
		Origin:  SourceIdentity{65024, 10125505, sys.Time{Sec: 1795567063, Nsec: 651618642}},
		LockDir: "/var/lib/shard_to_ssd", Time: time.Unix(1795567063, 828136354), Files: 2, Entries: 6, Bytes: 4194310,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	early, late := sys.Time{Sec: 1795567063, Nsec: 645404122}, sys.Time{Sec: 1795567063, Nsec: 651618642}
	for _, r := range []tree.Record{
		{Kind: tree.Dir, Name: ".", Mode: 0o755, Mtime: late},
		{Kind: tree.Regular, Name: "a", Mode: 0o644, Mtime: early, Size: 5, Sum: 0xa8ce38f99756b7b3},
		{Kind: tree.Regular, Name: "big", Mode: 0o644, Mtime: late, Size: 4194305},
		{Kind: tree.Sums, Sums: []uint64{0x639f9e1a7cbc9d28, 0xe934a84adb052768}},
		{Kind: tree.Subdir, Name: "dir"},
		{Kind: tree.Symlink, Name: "link", Mode: 0o777, Mtime: late, Target: "a"},
		{Kind: tree.Dir, Name: "dir", Path: "dir", Depth: 1, Mode: 0o755, Mtime: late},
		{Kind: tree.HardLink, Name: "b", Path: "dir", Mode: 0o644, Mtime: early, Size: 5, Target: "a"},
	} {
		if err := w.WriteRecord(&r, 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Finish(); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(state.Path(), ManifestName))
	if err != nil || string(got) != want {
		t.Errorf("got manifest\n%s\n%v, want\n%s", got, err, want)
	}
	putManifest(t, state, []byte(want))
	if err := checkManifest(state); err != nil {
		t.Error(err)
	}
	putManifest(t, state, bytes.Replace([]byte(want), []byte("manifest 1\n"), []byte("manifest 2\n"), 1))
	refused := fmt.Sprint(checkManifest(state))
	if _, word, _ := strings.Cut(refused, "manifest: "); word == "" || !strings.Contains(page, word) {
		t.Errorf("another version: docs/on-disk.md does not have the error %q", refused)
	}
	for _, f := range (&Header{}).encodeFields() {
		if !strings.Contains(page, "| `"+f.Key+"` |") {
			t.Errorf("docs/on-disk.md does not have the key %s", f.Key)
		}
	}
}

// The documentation has the limits of the code.
func TestDocumentedBounds(t *testing.T) {
	page, _ := documentedBlock(t, "manifest")
	state := openState(t)
	for _, c := range []struct {
		bound int
		text  func(n int) []byte
	}{
		{tree.MaxLine, func(n int) []byte { // the newline makes it too long
			return forgeManifest(rootLine, fileLine+`"`+strings.Repeat("x", n-len(fileLine)-1))
		}},
		{256 << 10, func(n int) []byte { return forgeManifest(nestedDirs(n)...) }},
	} {
		putManifest(t, state, c.text(c.bound+1))
		if err := checkManifest(state); err == nil || !strings.Contains(err.Error(), strconv.Itoa(c.bound)) || !strings.Contains(page, strconv.Itoa(c.bound)) {
			t.Errorf("the limit %d is not in docs/on-disk.md or not in the error: %v", c.bound, err)
		}
	}
	if !strings.Contains(page, strconv.Itoa(tree.BlockSize)) {
		t.Error("docs/on-disk.md does not have the block size")
	}
}

// nestedDirs returns records of directories in each other, with a path of at least n bytes.
func nestedDirs(n int) []string {
	lines, name := []string{rootLine}, strings.Repeat("d", 255)
	for depth := 1; depth*256 <= n+256; depth++ {
		lines = append(lines, `d "`+name+`"`, fmt.Sprintf(`D %d 0755 0 0 1.000000000 - "%s"`, depth, name))
	}
	return lines
}

// The checksum lines in the documentation equal those that are written, and can be read.
func TestDocumentedSums(t *testing.T) {
	_, want := documentedBlock(t, "sums")
	var b bytes.Buffer
	s := newSumsWriter(&b)
	for _, f := range []SumLine{{"a", 0xa8ce38f99756b7b3}, {"big", 0xdefc20c3e3687583}, {"dir/line\nbreak", 0xef46db3751d8e999}} {
		if err := s.writeLine(f.Path, f.Sum); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.flush(); err != nil || b.String() != want {
		t.Errorf("got lines\n%s\n%v, want\n%s", b.String(), err, want)
	}
	if good, bad := readLines(t, []byte(want)); len(good) != 3 || len(bad) > 0 {
		t.Errorf("got good lines %v and bad lines %v, want 3 good ones", good, bad)
	}
}
