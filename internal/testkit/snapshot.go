package testkit

import (
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// Tree is what a tree looked like at one time, by path.
type Tree map[string]Fact

// Fact is all that is known of one entry but its atime. Changes of extended
// attributes and of the number of links show in the ctime.
type Fact struct {
	Kind         string
	Mode         uint32
	Uid, Gid     uint32
	Ino          uint64
	Size         int64
	Mtime, Ctime unix.Timespec
	Target       string   // of a symbolic link
	Sum          [32]byte // SHA-256 of a regular file
	Err          string   // why something of this could not be read
}

// Snapshot is the tree or file at path now; it is empty if there is none.
func Snapshot(path string) Tree {
	tree := Tree{}
	tree.add(".", root(path))
	return tree
}

func (tree Tree) add(at string, e entry) {
	st, err := e.stat()
	if err == unix.ENOENT {
		return
	}
	fact := Fact{
		Kind: kind(st), Mode: st.Mode & 0o7777, Uid: st.Uid, Gid: st.Gid,
		Ino: st.Ino, Size: st.Size, Mtime: st.Mtim, Ctime: st.Ctim,
	}
	if err == nil {
		switch fact.Kind {
		case "directory":
			err = tree.addAll(at, e)
		case "regular file":
			fact.Sum, err = sum(e)
		case "symbolic link":
			fact.Target, err = e.target()
		}
	}
	if err != nil {
		fact.Err = err.Error()
	}
	tree[at] = fact
}

func (tree Tree) addAll(at string, e entry) error {
	dir, names, err := e.list()
	if err != nil {
		return err
	}
	defer dir.Close()
	fd := int(dir.Fd())
	for _, name := range names {
		tree.add(path.Join(at, name), entry{fd, name})
	}
	return nil
}

func sum(e entry) (sum [32]byte, err error) {
	f, err := e.open(unix.O_RDONLY, 0)
	if err != nil {
		return sum, err
	}
	defer f.Close()
	hash := sha256.New()
	_, err = io.Copy(hash, f)
	return [32]byte(hash.Sum(nil)), err
}

// Diff says what changed between two snapshots, a line for each path and thing,
// and nothing if nothing did.
func Diff(before, after Tree) []string {
	var lines []string
	names := slices.AppendSeq(slices.Collect(maps.Keys(before)), maps.Keys(after))
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		was, wasThere := before[name]
		is, isThere := after[name]
		switch {
		case !wasThere:
			lines = append(lines, strconv.Quote(name)+": appeared")
		case !isThere:
			lines = append(lines, strconv.Quote(name)+": vanished")
		default:
			lines = append(lines, changes(name, was, is)...)
		}
	}
	return lines
}

func changes(name string, was, is Fact) (lines []string) {
	for _, fact := range []struct {
		what    string
		was, is any
	}{
		{"type", was.Kind, is.Kind},
		{"mode", octal(was.Mode), octal(is.Mode)},
		{"owner", [2]uint32{was.Uid, was.Gid}, [2]uint32{is.Uid, is.Gid}},
		{"inode", was.Ino, is.Ino},
		{"size", was.Size, is.Size},
		{"mtime", clock(was.Mtime), clock(is.Mtime)},
		{"ctime", clock(was.Ctime), clock(is.Ctime)},
		{"target", was.Target, is.Target},
		{"SHA-256", was.Sum, is.Sum},
		{"error", was.Err, is.Err},
	} {
		if fact.was != fact.is {
			lines = append(lines, fmt.Sprintf("%s: %s: was %v, is %v", strconv.Quote(name), fact.what, fact.was, fact.is))
		}
	}
	return lines
}
