package tree

import "strings"

// Only is some entries of a tree, by their paths; nil is all of them. It takes some
// hundred bytes an entry.
type Only struct {
	has   map[string]struct{}
	above map[string]struct{} // the directories on the way to them
}

// NewOnly is no entry.
func NewOnly() *Only { return &Only{map[string]struct{}{}, map[string]struct{}{}} }

// Add adds the entry at a path below the root, without what is in it; "." is the
// root.
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

// Len is the number of entries.
func (o *Only) Len() int { return len(o.has) }

// Has reports whether the entry at path is one of them.
func (o *Only) Has(path string) bool {
	if o == nil {
		return true
	}
	_, has := o.has[path]
	return has
}

// Leads reports whether the entry at path is one of them, or something below it.
func (o *Only) Leads(path string) bool {
	if o.Has(path) {
		return true
	}
	_, leads := o.above[path]
	return leads
}

// Above is the path of the directory that the entry at path is in; "." is the root.
func Above(path string) string {
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[:i]
	}
	return "."
}
