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

// Tree is the state of a tree at one time, by path.
type Tree map[string]Fact

// Fact is the state of one entry, without its atime. The ctime shows changes of extended
// attributes and of the number of links.
type Fact struct {
	Kind         string
	Mode         uint32
	Uid, Gid     uint32
	Ino          uint64
	Size         int64
	Mtime, Ctime unix.Timespec
	Target       string   // of a symbolic link
	Sum          [32]byte // SHA-256 of a regular file
	Err          string   // why a part of this could not be read
}

// SnapshotTree returns the state of the tree or file at path. It is empty if path does not
// exist.
func SnapshotTree(path string) Tree {
	tree := Tree{}
	tree.addEntry(".", rootEntry(path))
	return tree
}

func (tree Tree) addEntry(at string, e entry) {
	st, err := e.stat()
	if err == unix.ENOENT {
		return
	}
	fact := Fact{
		Kind: typeName(st), Mode: st.Mode & 0o7777, Uid: st.Uid, Gid: st.Gid,
		Ino: st.Ino, Size: st.Size, Mtime: st.Mtim, Ctime: st.Ctim,
	}
	if err != nil {
		fact.Err = err.Error()
	} else if err := tree.readContents(at, e, &fact); err != nil {
		fact.Err = err.Error()
	}
	tree[at] = fact
}

// readContents reads the contents of an entry into its fact, or, for a directory, into
// the tree.
func (tree Tree) readContents(at string, e entry, fact *Fact) (err error) {
	switch fact.Kind {
	case "directory":
		err = tree.addDirectory(at, e)
	case "regular file":
		fact.Sum, err = contentSum(e)
	case "symbolic link":
		fact.Target, err = e.target()
	}
	return err
}

func (tree Tree) addDirectory(at string, e entry) error {
	dir, names, err := e.list()
	if err != nil {
		return err
	}
	defer dir.Close()
	fd := int(dir.Fd())
	for _, name := range names {
		tree.addEntry(path.Join(at, name), entry{fd, name})
	}
	return nil
}

func contentSum(e entry) (sum [32]byte, err error) {
	f, err := e.open(unix.O_RDONLY, 0)
	if err != nil {
		return sum, err
	}
	defer f.Close()
	hash := sha256.New()
	_, err = io.Copy(hash, f)
	return [32]byte(hash.Sum(nil)), err
}

// DiffSnapshots returns the changes between two snapshots, one line for each path and fact.
func DiffSnapshots(before, after Tree) []string {
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
			lines = append(lines, changedFacts(name, was, is)...)
		}
	}
	return lines
}

func changedFacts(path string, was, is Fact) (lines []string) {
	for _, fact := range []struct {
		name    string
		was, is any
	}{
		{"type", was.Kind, is.Kind},
		{"mode", modeText(was.Mode), modeText(is.Mode)},
		{"owner", [2]uint32{was.Uid, was.Gid}, [2]uint32{is.Uid, is.Gid}},
		{"inode", was.Ino, is.Ino},
		{"size", was.Size, is.Size},
		{"mtime", timeText(was.Mtime), timeText(is.Mtime)},
		{"ctime", timeText(was.Ctime), timeText(is.Ctime)},
		{"target", was.Target, is.Target},
		{"SHA-256", was.Sum, is.Sum},
		{"error", was.Err, is.Err},
	} {
		if fact.was != fact.is {
			lines = append(lines, fmt.Sprintf("%s: %s: was %v, is %v", strconv.Quote(path), fact.name, fact.was, fact.is))
		}
	}
	return lines
}
