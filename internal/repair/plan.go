package repair

import (
	"maps"
	"os"
	"slices"

	"shard_to_ssd/internal/tree"
	"shard_to_ssd/verify"
)

// Plan says which entries of a shard have to be repaired, and how. It takes some
// hundred bytes of memory for each damaged entry.
type Plan struct {
	// Copied is the set of entries that the source is needed for: they are copied
	// again. InPlace is the set of files that keep their contents. Settle fills both.
	Copied, InPlace *tree.PathSet

	severities map[string]severity // by path below the shard
	dirs       map[string]bool     // paths that are directories in the manifest
	unread     bool                // something could not be read: its contents are not known
}

// severity orders the kinds of damage of an entry: a worse one includes the repair of
// the others.
type severity int

const (
	wrongTime   severity = iota + 1
	wrongOwner           // or mode
	wrongXattrs          // of a directory; any other entry is recreated
	broken               // is recreated
	extraneous           // not part of the shard
)

// NewPlan returns a plan that repairs nothing.
func NewPlan() *Plan {
	return &Plan{Copied: tree.NewPathSet(), InPlace: tree.NewPathSet(), severities: map[string]severity{}, dirs: map[string]bool{}}
}

// IsEmpty reports whether there is nothing to repair.
func (p *Plan) IsEmpty() bool { return len(p.severities) == 0 }

// Add takes a difference between the shard and its manifest.
func (p *Plan) Add(d verify.Difference) {
	how := broken
	switch d.Kind {
	case verify.Mtime:
		how = wrongTime
	case verify.Mode, verify.Owner:
		how = wrongOwner
	case verify.Xattrs:
		how = wrongXattrs
	case verify.Extra:
		how = extraneous
	case verify.Unreadable:
		p.unread = true
	}
	p.severities[d.Path] = max(p.severities[d.Path], how)
}

// RootIsBroken reports whether the top directory itself would have to be recreated.
func (p *Plan) RootIsBroken() bool { return p.severities["."] >= broken }

// Prevents reports whether a difference between the manifest and the source, or the
// new copy, keeps the shard from being repaired. Owner, mode and times of
// directories come from the manifest: the source may have got other files since.
func (p *Plan) Prevents(d verify.Difference) bool {
	if !p.dirs[d.Path] {
		return true
	}
	return d.Kind != verify.Mode && d.Kind != verify.Owner && d.Kind != verify.Mtime
}

// Settle decides how each entry is repaired, when all damage is known.
func (p *Plan) Settle(shard verify.Shard, m *verify.Manifest) error {
	linked := map[string]bool{} // files with another name that is damaged
	recreated := false          // the open directory is recreated, with everything in it
	err := m.EachRecord(func(r *tree.Record) error {
		path := r.RelativePath()
		switch {
		case r.Kind == tree.Sums:
			return nil
		case r.Kind == tree.Dir:
			recreated = p.severities[path] == broken
		case recreated:
			p.severities[path] = broken
		}
		if p.severities[path] != 0 {
			p.settleEntry(shard, r, linked)
		}
		return nil
	})
	if err != nil {
		return err
	}
	// A file that is recreated is recreated under all its names.
	err = m.EachRecord(func(r *tree.Record) error {
		if r.Kind == tree.HardLink && (linked[r.Target] || p.severities[r.Target] == broken) {
			p.severities[r.RelativePath()], p.severities[r.Target] = broken, broken
		}
		return nil
	})
	p.divide()
	return err
}

// settleEntry decides which damage is repaired in place: the metadata of directories,
// and that of files with one name that lose nothing by a change of owner or mode.
func (p *Plan) settleEntry(shard verify.Shard, r *tree.Record, linked map[string]bool) {
	path := r.RelativePath()
	switch how := p.severities[path]; {
	case r.Kind == tree.Dir || r.Kind == tree.Subdir:
		p.dirs[path] = true
		return
	case r.Kind == tree.HardLink:
		linked[r.Target] = true
	case r.Kind == tree.Regular && how == wrongTime && hasOneName(shard, r):
		return
	case r.Kind == tree.Regular && how == wrongOwner && r.Xattrs == 0 && os.Geteuid() == 0 && hasOneName(shard, r):
		return
	}
	p.severities[path] = broken
}

func hasOneName(shard verify.Shard, r *tree.Record) bool {
	d, err := shard.Parent.OpenWithin(tree.JoinPath(shard.Name, r.Path))
	if err != nil {
		return false
	}
	defer d.Close()
	s, err := d.StatAt(r.Name)
	return err == nil && s.IsRegular() && s.Nlink == 1
}

// divide fills Copied and InPlace.
func (p *Plan) divide() {
	for path, how := range p.severities {
		switch {
		case how == broken, how == wrongXattrs:
			p.Copied.Add(path)
		case how < broken && !p.dirs[path]:
			p.InPlace.Add(path)
		}
	}
}

// Changed returns the set of everything that Apply changes: the entries, and the
// directories that they are in.
func (p *Plan) Changed() *tree.PathSet {
	all := tree.NewPathSet()
	for path := range p.severities {
		all.Add(path)
		all.Add(tree.ParentPath(path))
	}
	return all
}

// Suspects returns the set of entries to examine again after a while, nil for the
// whole shard: something that could not be read may hide more damage.
func (p *Plan) Suspects() *tree.PathSet {
	if p.unread {
		return nil
	}
	return p.Changed()
}

// Action says how an entry is repaired.
type Action string

// The actions.
const (
	Recopied    Action = "copied"   // copied again from the source, and put in its place
	SetMetadata Action = "metadata" // owner, mode, mtime or extended attributes, in place
	TakenAway   Action = "removed"  // it was not part of the shard
)

// EachAction calls report for each entry, in the order of their paths.
func (p *Plan) EachAction(report func(path string, action Action)) {
	for _, path := range slices.Sorted(maps.Keys(p.severities)) {
		action := SetMetadata
		switch p.severities[path] {
		case broken:
			action = Recopied
		case extraneous:
			action = TakenAway
		}
		report(path, action)
	}
}

// extraneous returns the sorted paths of entries that are not part of the shard.
func (p *Plan) extraneous() (paths []string) {
	for path, how := range p.severities {
		if how == extraneous {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	return paths
}
