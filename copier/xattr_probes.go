package copier

import (
	"fmt"
	"strings"

	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/tree"
)

// xattrProbes has one extended attribute of each class that the source uses. Before
// anything is copied, they show whether the file system of the SSD takes the class.
type xattrProbes map[string]xattrProbe

type xattrProbe struct {
	tree.Xattr
	path  string
	isDir bool
}

func (p xattrProbes) addProbes(attrs []tree.Xattr, path string, isDir bool) {
	for _, a := range attrs {
		class := a.Name
		if i := strings.IndexByte(a.Name, '.'); !strings.HasPrefix(a.Name, "system.") {
			class = a.Name[:i]
		}
		if _, known := p[class]; !known {
			p[class] = xattrProbe{a, path, isDir}
		}
	}
}

const (
	probeFile = "probe.file"
	probeDir  = "probe.dir"
)

// checkSupport sets one attribute of each class on an empty file or directory in the
// state dir. ACLs are set last: they can take away the permission to set the others.
func (p xattrProbes) checkSupport(state *sys.File) error {
	if len(p) == 0 {
		return nil
	}
	defer removeProbes(state)
	removeProbes(state)
	if err := makeProbes(state); err != nil {
		return err
	}
	for _, acls := range []bool{false, true} {
		for _, probe := range p {
			if tree.IsACL(probe.Name) != acls {
				continue
			}
			if err := probe.trySet(state); err != nil {
				return err
			}
		}
	}
	return nil
}

func makeProbes(state *sys.File) error {
	f, err := state.OpenAt(probeFile, createNew, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return state.MkdirAt(probeDir, 0o700)
}

func (p *xattrProbe) trySet(state *sys.File) error {
	on := probeFile
	if p.isDir {
		on = probeDir
	}
	if err := state.SetXattrAt(on, p.Name, p.Value); err != nil {
		return fmt.Errorf("the SSD's file system refuses the extended attribute %s of %q: %w", p.Name, p.path, err)
	}
	return nil
}

// removeProbes ignores errors: mostly there are no probes, and one that stays makes the
// next makeProbes fail.
func removeProbes(state *sys.File) {
	_ = state.UnlinkAt(probeFile)
	_ = state.RmdirAt(probeDir)
}
