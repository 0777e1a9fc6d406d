package testkit

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// baseTree has one entry of each kind that can differ.
func baseTree(has Features) []Step {
	steps := []Step{
		Dir("dir", 0o755),
		Dir("empty", 0o755),
		TextFile("dir/file", "hello"),
		File("big", 600_000, 1),
		Symlink("dir/file", "link"),
		TextFile("one", "linked"),
		Hardlink("one", "two"),
		TextFile("alone", "linked"),
		Sparse("sparse", 2<<20, []Extent{{1 << 20, 4096}}),
		FIFO("fifo"),
		Socket("socket"),
	}
	if has.Owners {
		steps = append(steps, Device("null", 1, 3))
	}
	if has.UserXattrs {
		steps = append(steps, Xattr("dir/file", "user.a", "value"))
	}
	return steps
}

type difference struct {
	name string
	make []Step   // in the copy, before all times are reset
	late []Step   // after that
	want []string // the start of each line
}

func differences(has Features) []difference {
	sec := time.Unix(1e9, 0)
	cases := []difference{
		{name: "missing", make: []Step{Remove("big")}, want: []string{`"big": entry: present, copy missing`}},
		{name: "extra", make: []Step{TextFile("dir/new", "")}, want: []string{`"dir/new": entry: missing, copy present`}},
		{name: "missing directory", make: []Step{Remove("empty")}, want: []string{`"empty": entry: present, copy missing`}},
		{name: "odd name", make: []Step{TextFile("\xff\n", "")}, want: []string{`"\xff\n": entry`}},
		{name: "type", make: []Step{Remove("empty"), TextFile("empty", "")}, want: []string{`"empty": type: directory, copy regular file`}},
		{name: "FIFO for socket", make: []Step{Remove("socket"), FIFO("socket")}, want: []string{`"socket": type: socket, copy FIFO`}},
		{name: "mode", make: []Step{Chmod("big", 0o600)}, want: []string{`"big": mode: 0644, copy 0600`}},
		{name: "sticky", make: []Step{Chmod("empty", 0o1755)}, want: []string{`"empty": mode: 0755, copy 1755`}},
		{name: "mode of root", make: []Step{Chmod(".", 0o700)}, want: []string{`".": mode: `}},
		{name: "mtime", late: []Step{Times("big", sec, sec.Add(1))}, want: []string{`"big": mtime: 2001-09-09T01:46:40Z, copy 2001-09-09T01:46:40.000000001Z`}},
		{name: "mtime of directory", late: []Step{Times("dir", sec, sec.Add(1))}, want: []string{`"dir": mtime`}},
		{name: "mtime of link", late: []Step{Times("link", sec, sec.Add(1))}, want: []string{`"link": mtime`}},
		{name: "mtime of root", late: []Step{Times(".", sec, sec.Add(1))}, want: []string{`".": mtime`}},
		{name: "atime may differ", late: []Step{Times("big", sec.Add(1), sec)}},
		{name: "shorter", make: []Step{Truncate("big", 599_999)}, want: []string{`"big": size: 600000, copy 599999`}},
		{name: "longer", make: []Step{Truncate("big", 600_001)}, want: []string{`"big": size`}},
		{name: "first byte", make: []Step{Write("dir/file", 0, "j")}, want: []string{`"dir/file": contents at byte 0: 104, copy 106`}},
		{name: "last byte", make: []Step{File("big", 599_999, 1), Write("big", 599_999, "\x00")}, want: []string{`"big": contents at byte 599999`}},
		{name: "data in a hole", make: []Step{Write("sparse", 1<<19, "x")}, want: []string{`"sparse": contents at byte 524288`}},
		{name: "hole filled", make: []Step{Write("sparse", 0, strings.Repeat("\x00", 1<<19))}, want: []string{`"sparse": bytes allocated`}},
		{name: "target", make: []Step{Remove("link"), Symlink("dir/fil", "link")}, want: []string{`"link": target: "dir/file", copy "dir/fil"`}},
		{name: "links apart", make: []Step{Remove("two"), TextFile("two", "linked")}, want: []string{`"two": hard link: with "one", copy none so far`}},
		{name: "links too many", make: []Step{Remove("alone"), Hardlink("one", "alone")},
			want: []string{`"one": hard link: none so far, copy with "alone"`, `"two": hard link`}},
		{name: "links crossed", make: []Step{Remove("alone"), Remove("two"), Hardlink("one", "alone"), TextFile("two", "linked")},
			want: []string{`"one": hard link: none so far, copy with "alone"`, `"two": hard link`}},
		{name: "link from outside", make: []Step{Hardlink("big", "../outside")}, want: []string{`"big": number of links: 1 in the tree, copy 2`}},
	}
	return append(cases, attributeDifferences(has)...)
}

func attributeDifferences(has Features) (cases []difference) {
	add := func(supported bool, name, want string, steps ...Step) {
		if supported {
			cases = append(cases, difference{name: name, make: steps, want: []string{want}})
		}
	}
	add(has.UserXattrs, "xattr missing", `"dir/file": xattr user.a: "value", copy none`, DropXattr("dir/file", "user.a"))
	add(has.UserXattrs, "xattr value", `"dir/file": xattr user.a: "value", copy ""`, Xattr("dir/file", "user.a", ""))
	add(has.UserXattrs, "empty xattr extra", `"dir": xattr user.b: none, copy ""`, Xattr("dir", "user.b", ""))
	add(has.TrustedXattrs, "trusted of link", `"link": xattr trusted.a`, Xattr("link", "trusted.a", "x"))
	add(has.Capabilities, "capability", `"big": xattr security.capability`, Xattr("big", "security.capability", CapNetRaw))
	add(has.ACLs, "access ACL", `"big": xattr system.posix_acl_access`, ACL("big", AccessACL, 12, 4))
	add(has.ACLs, "default ACL", `"dir": xattr system.posix_acl_default`, ACL("dir", DefaultACL, 12, 4))
	add(has.Owners, "owner", `"big": owner: 0:0, copy 1:0`, Chown("big", 1, 0))
	add(has.Owners, "group of link", `"link": owner: 0:0, copy 0:1`, Chown("link", 0, 1))
	add(has.Owners, "setuid", `"big": mode: 0644, copy 4644`, Chmod("big", 0o4644))
	add(has.Owners, "device", `"null": device: 1:3, copy 1:5`, Remove("null"), Device("null", 1, 5))
	return cases
}

func TestCompareReports(t *testing.T) {
	base := t.TempDir()
	has := ProbeFeatures(t, base)
	original := filepath.Join(base, "original")
	if err := os.Mkdir(original, 0o755); err != nil {
		t.Fatal(err)
	}
	Apply(t, original, baseTree(has)...)
	pinTimes(t, original)
	for _, c := range differences(has) {
		t.Run(c.name, func(t *testing.T) {
			b := filepath.Join(t.TempDir(), "copy")
			RunCommand(t, "cp", "-a", "--reflink=never", "--sparse=always", original, b)
			if lines := CompareTrees(original, b); len(lines) != 0 {
				t.Fatalf("a copy by cp -a differs:\n%s", strings.Join(lines, "\n"))
			}
			Apply(t, b, c.make...)
			pinTimes(t, b)
			Apply(t, b, c.late...)
			wantLines(t, CompareTrees(original, b), c.want)
		})
	}
}

// pinTimes gives all entries the same times, because a change of one entry also changes
// the times of others.
func pinTimes(t *testing.T, root string) {
	t.Helper()
	for name := range SnapshotTree(root) {
		Apply(t, root, Times(name, time.Unix(1e9, 0), time.Unix(1e9, 0)))
	}
}

func wantLines(t *testing.T, lines, want []string) {
	t.Helper()
	if !slices.EqualFunc(lines, want, strings.HasPrefix) {
		t.Errorf("got:\n%s\nwant:\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
}

func TestCompareFiles(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	Apply(t, dir, TextFile("a", "1"), TextFile("b", "1"))
	pinTimes(t, dir)
	ExpectSame(t, a, b)
	Apply(t, dir, Write("b", 0, "2"))
	pinTimes(t, dir)
	wantLines(t, CompareTrees(a, b), []string{`".": contents at byte 0`})
	wantLines(t, CompareTrees(a, b+"missing"), []string{`".": cannot compare: stat`})
}

func TestCompareUnreadable(t *testing.T) {
	dir := t.TempDir()
	Apply(t, dir, TextFile("a/file", ""), TextFile("b/file", ""), Chmod("b/file", 0))
	pinTimes(t, dir)
	lines := CompareTrees(filepath.Join(dir, "a"), filepath.Join(dir, "b"))
	want := []string{`"file": mode`}
	if !isRoot() { // root can read everything
		want = append(want, `"file": cannot compare: open the copy`)
	}
	wantLines(t, lines, want)
}

func TestDiff(t *testing.T) {
	sec := time.Unix(1e9, 0)
	for _, c := range []difference{
		{name: "nothing"},
		{name: "appeared", make: []Step{TextFile("dir/new", "")}, want: []string{`"dir": mtime`, `"dir": ctime`, `"dir/new": appeared`}},
		{name: "vanished", make: []Step{Remove("dir/file")}, want: []string{`"dir": mtime`, `"dir": ctime`, `"dir/file": vanished`}},
		{name: "mode", make: []Step{Chmod("dir/file", 0o600)}, want: []string{`"dir/file": mode: was 0644, is 0600`, `"dir/file": ctime`}},
		{name: "contents", make: []Step{Write("dir/file", 0, "j")}, want: []string{`"dir/file": mtime`, `"dir/file": ctime`, `"dir/file": SHA-256`}},
		{name: "size", make: []Step{Truncate("sparse", 1)},
			want: []string{`"sparse": size`, `"sparse": mtime`, `"sparse": ctime`, `"sparse": SHA-256`}},
		{name: "same again", make: []Step{Times("dir/file", sec, sec)}, want: []string{`"dir/file": ctime`}},
		{name: "replaced", make: []Step{TextFile("new", "linked"), Times("new", sec, sec), Rename("new", "alone"), Times(".", sec, sec)},
			want: []string{`".": ctime`, `"alone": inode`, `"alone": ctime`}},
		{name: "type", make: []Step{Remove("alone"), FIFO("alone"), Times("alone", sec, sec), Times(".", sec, sec)},
			want: []string{`".": ctime`, `"alone": type`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			Apply(t, dir, baseTree(Features{})...)
			pinTimes(t, dir)
			before := SnapshotTree(dir)
			Apply(t, dir, c.make...)
			lines := DiffSnapshots(before, SnapshotTree(dir))
			// A new inode has more differences than this case tests.
			lines = lines[:min(len(lines), max(len(c.want), 1))]
			wantLines(t, lines, c.want)
		})
	}
	if tree := SnapshotTree(filepath.Join(t.TempDir(), "none")); len(tree) != 0 {
		t.Errorf("snapshot of a missing path: got %d entries, want 0", len(tree))
	}
}

// Each fact is changed alone here. On a disk some of them change only together.
func TestDiffOfFacts(t *testing.T) {
	for want, is := range map[string]Fact{
		`"x": type: was , is FIFO`:        {Kind: "FIFO"},
		`"x": owner: was [0 0], is [1 0]`: {Uid: 1},
		`"x": owner: was [0 0], is [0 1]`: {Gid: 1},
		`"x": inode: was 0, is 1`:         {Ino: 1},
		`"x": target: was , is there`:     {Target: "there"},
		`"x": error: was , is why`:        {Err: "why"},
	} {
		wantLines(t, DiffSnapshots(Tree{"x": {}}, Tree{"x": is}), []string{want})
	}
}
