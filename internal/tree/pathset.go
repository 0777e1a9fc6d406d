package tree

import "strings"

// Only is a set of entries of a tree, by their paths. A nil set holds all entries. A set
// takes about a hundred bytes for each entry.
type Only struct {
	has   map[string]struct{}
	above map[string]struct{} // the directories on the way to these entries
}

// NewOnly returns an empty set.
func NewOnly() *Only { return &Only{map[string]struct{}{}, map[string]struct{}{}} }

// Add adds the entry at path, which is relative to the root; "." is the root. The
// entries of a directory are not added with it.
func (o *Only) Add(path string) {
	o.has[path] = struct{}{}
	for path != "." {
		path = Above(path)
		if _, known := o.above[path]; known {
			return
		}
		o.above[path] = struct{}{}
	}
}

// Len returns the number of entries.
func (o *Only) Len() int { return len(o.has) }

// Has reports whether the set holds the entry at path.
func (o *Only) Has(path string) bool {
	if o == nil {
		return true
	}
	_, has := o.has[path]
	return has
}

// Leads reports whether the set holds the entry at path, or an entry below it.
func (o *Only) Leads(path string) bool {
	if o.Has(path) {
		return true
	}
	_, leads := o.above[path]
	return leads
}

// Above returns the path of the directory that holds the entry at path; "." is the
// root.
func Above(path string) string {
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[:i]
	}
	return "."
}
