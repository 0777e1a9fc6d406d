package facts

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"shard_to_ssd/bench"
	"shard_to_ssd/internal/sys"
)

// Roots are where the kernel is asked. The zero value is the real ones.
type Roots struct {
	Sys  string // "": /sys
	Proc string // "": /proc
}

func (r Roots) sys(names ...string) string { return below(r.Sys, "/sys", names) }

func (r Roots) proc(names ...string) string { return below(r.Proc, "/proc", names) }

func below(root, usual string, names []string) string {
	if root == "" {
		root = usual
	}
	return filepath.Join(append([]string{root}, names...)...)
}

// Look finds the facts of the device below dir, and of the machine. It fails only if
// dir cannot be opened.
func Look(at Roots, dir string, hideSerial bool) (bench.Facts, error) {
	d, err := sys.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return bench.Facts{}, err
	}
	defer d.Close()
	f := at.machine()
	if space, err := d.Space(); err == nil {
		f.Size, f.Free = &space.Size, &space.Free
	}
	m := at.mountOf(d)
	m.describe(&f)
	if disk, found := at.disk(m, &f); found {
		disk.describe(&f)
	}
	if hideSerial {
		f.Serial = nil
	}
	return f, nil
}

// text is what a file of one line says, nil if that is nothing. The kernel pads some
// with blanks.
func text(path string) *string {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	return known(string(b))
}

func known(s string) *string {
	if s = strings.TrimSpace(strings.Trim(s, "\x00")); s == "" {
		return nil
	}
	return &s
}

func number(path string) *int64 {
	s := text(path)
	if s == nil {
		return nil
	}
	n, err := strconv.ParseInt(*s, 10, 64)
	if err != nil {
		return nil
	}
	return &n
}

// names are the entries of a directory, none if there is no such.
func names(dir string) (list []string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}
