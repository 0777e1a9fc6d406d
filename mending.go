package shardtossd

import (
	"maps"
	"os"
	"slices"
	"strings"

	"shard_to_ssd/internal/tree"
	"shard_to_ssd/verify"
)

// mending is what of a shard has to be mended, and how. It takes some hundred bytes
// for each damaged entry.
type mending struct {
	damage map[string]degree // by path below the shard
	dirs   map[string]bool   // those of the manifest's directories

	unread bool // something could not be read: what is in it is not known

	copied  *tree.Only // what the source is needed for
	inPlace *tree.Only // files that keep their contents
}

// degree is how bad the damage of an entry is.
type degree int

const (
	wrongTime   degree = iota + 1
	wrongOwner         // or mode
	wrongXattrs        // of a directory; anything else is made anew
	broken             // is made anew
	foreignTo          // not part of the shard
)

func newMending() *mending {
	return &mending{damage: map[string]degree{}, dirs: map[string]bool{}, copied: tree.NewOnly(), inPlace: tree.NewOnly()}
}

func (n *mending) none() bool { return len(n.damage) == 0 }

// add takes a difference.
func (n *mending) add(d verify.Difference) {
	how := broken
	switch d.Kind {
	case verify.Mtime:
		how = wrongTime
	case verify.Mode, verify.Owner:
		how = wrongOwner
	case verify.Xattrs:
		how = wrongXattrs
	case verify.Extra:
		how = foreignTo
	case verify.Unreadable:
		n.unread = true
	}
	n.damage[d.Path] = max(n.damage[d.Path], how)
}

// matters reports whether a difference between the manifest and the source, or what
// was copied from it, keeps the shard from being mended. Owner, mode and times of
// directories come from the manifest: the source may have got other files since.
func (n *mending) matters(d verify.Difference) bool {
	if !n.dirs[d.Path] {
		return true
	}
	return d.Kind != verify.Mode && d.Kind != verify.Owner && d.Kind != verify.Mtime
}

// settle decides how each entry is mended, when all damage is known.
func (n *mending) settle(shard verify.Shard, m *verify.Manifest) error {
	linked := map[string]bool{} // files of which a further name is damaged
	anew := false               // the open directory is made anew, with what is in it
	err := m.Each(func(r *tree.Record) error {
		path := r.Below()
		switch {
		case r.Kind == tree.Sums:
			return nil
		case r.Kind == tree.Dir:
			anew = n.damage[path] == broken
		case anew:
			n.damage[path] = broken
		}
		if n.damage[path] != 0 {
			n.settleOne(shard, r, linked)
		}
		return nil
	})
	if err != nil {
		return err
	}
	// A file that is made anew is so under all its names.
	err = m.Each(func(r *tree.Record) error {
		if r.Kind == tree.HardLink && (linked[r.Target] || n.damage[r.Target] == broken) {
			n.damage[r.Below()], n.damage[r.Target] = broken, broken
		}
		return nil
	})
	n.divide()
	return err
}

// settleOne decides what can be mended in place: the metadata of directories, and that
// of files which have one name and nothing that a change of owner or mode takes along.
func (n *mending) settleOne(shard verify.Shard, r *tree.Record, linked map[string]bool) {
	path := r.Below()
	switch how := n.damage[path]; {
	case r.Kind == tree.Dir || r.Kind == tree.Subdir:
		n.dirs[path] = true
		return
	case r.Kind == tree.HardLink:
		linked[r.Target] = true
	case r.Kind == tree.Regular && how == wrongTime && hasOneName(shard, r):
		return
	case r.Kind == tree.Regular && how == wrongOwner && r.Xattrs == 0 && os.Geteuid() == 0 && hasOneName(shard, r):
		return
	}
	n.damage[path] = broken
}

func hasOneName(shard verify.Shard, r *tree.Record) bool {
	d, err := shard.In.OpenWithin(tree.Join(shard.Name, r.Path))
	if err != nil {
		return false
	}
	defer d.Close() //nolint:errcheck // opened for reading
	s, err := d.StatAt(r.Name)
	return err == nil && s.IsRegular() && s.Nlink == 1
}

// divide notes what the source is needed for.
func (n *mending) divide() {
	for path, how := range n.damage {
		switch {
		case how == broken, how == wrongXattrs:
			n.copied.Add(path)
		case how < broken && !n.dirs[path]:
			n.inPlace.Add(path)
		}
	}
}

// touched is all that is changed: the entries, and the directories that they are in.
func (n *mending) touched() *tree.Only {
	all := tree.NewOnly()
	for path := range n.damage {
		all.Add(path)
		all.Add(tree.Above(path))
	}
	return all
}

// suspect is what to look at again after a while: all that is touched, or the whole
// shard if not all of it could be seen.
func (n *mending) suspect() *tree.Only {
	if n.unread {
		return nil
	}
	return n.touched()
}

// repairs tells what is done, in the order of paths.
func (n *mending) repairs(tell func(Mended)) {
	for _, path := range slices.Sorted(maps.Keys(n.damage)) {
		action := MetadataBack
		switch n.damage[path] {
		case broken:
			action = CopiedAgain
		case foreignTo:
			action = TakenAway
		}
		tell(Mended{path, action})
	}
}

// strangers are the paths of what is not part of the shard.
func (n *mending) strangers() (paths []string) {
	for path, how := range n.damage {
		if how == foreignTo {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	return paths
}

// splitPath is the directory that an entry is in, "" for the root, and its name there.
func splitPath(path string) (dir, name string) {
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[:i], path[i+1:]
	}
	return "", path
}
