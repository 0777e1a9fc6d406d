package tree

import "strings"

// PathSet is a set of entries of a tree, by their paths. A nil set holds all entries. A set
// takes about a hundred bytes for each entry.
type PathSet struct {
	has   map[string]struct{}
	above map[string]struct{} // the directories on the way to these entries
}

// NewPathSet returns an empty set.
func NewPathSet() *PathSet { return &PathSet{map[string]struct{}{}, map[string]struct{}{}} }

// Add adds the entry at path, which is relative to the root; "." is the root. The
// entries of a directory are not added with it.
func (o *PathSet) Add(path string) {
	o.has[path] = struct{}{}
	for path != "." {
		path = ParentPath(path)
		if _, known := o.above[path]; known {
			return
		}
		o.above[path] = struct{}{}
	}
}

// Len returns the number of entries.
func (o *PathSet) Len() int { return len(o.has) }

// Contains reports whether the set holds the entry at path.
func (o *PathSet) Contains(path string) bool {
	if o == nil {
		return true
	}
	_, has := o.has[path]
	return has
}

// ContainsAtOrBelow reports whether the set holds the entry at path, or an entry below it.
func (o *PathSet) ContainsAtOrBelow(path string) bool {
	if o.Contains(path) {
		return true
	}
	_, leads := o.above[path]
	return leads
}

// ParentPath returns the path of the directory that holds the entry at path; "." is the
// root.
func ParentPath(path string) string {
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[:i]
	}
	return "."
}
