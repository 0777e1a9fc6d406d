package copier

import (
	"fmt"
	"strings"

	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/tree"
)

// xattrProbes remembers one attribute of each class that the source uses, to
// ask the destination before anything is copied whether it takes them.
type xattrProbes map[string]xattrProbe

type xattrProbe struct {
	tree.Xattr
	path  string
	isDir bool
}

func (p xattrProbes) add(attrs []tree.Xattr, path string, isDir bool) {
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

// check sets each class of attribute on an empty file or directory in the state
// dir.
func (p xattrProbes) check(state *sys.File) error {
	if len(p) == 0 {
		return nil
	}
	defer removeProbes(state)
	removeProbes(state)
	f, err := state.OpenAt(probeFile, createNew, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := state.MkdirAt(probeDir, 0o700); err != nil {
		return err
	}
	for _, acls := range []bool{false, true} {
		for _, probe := range p {
			if tree.IsACL(probe.Name) != acls {
				continue
			}
			if err := probe.try(state); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *xattrProbe) try(state *sys.File) error {
	on := probeFile
	if p.isDir {
		on = probeDir
	}
	if err := state.SetXattrAt(on, p.Name, p.Value); err != nil {
		return fmt.Errorf("the SSD's file system does not take the extended attribute %s, which %q has: %w", p.Name, p.path, err)
	}
	return nil
}

func removeProbes(state *sys.File) {
	state.UnlinkAt(probeFile) //nolint:errcheck // mostly not there
	state.RmdirAt(probeDir)   //nolint:errcheck
}
