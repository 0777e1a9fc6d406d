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

// Options change where facts are read, and which facts are returned. The zero value is
// right for a real machine.
type Options struct {
	Sys        string // the directory to read instead of /sys; "": /sys
	Proc       string // the directory to read instead of /proc; "": /proc
	HideSerial bool   // leaves out the serial number of the drive
}

func (o Options) sysPath(names ...string) string { return joinBelow(o.Sys, "/sys", names) }

func (o Options) procPath(names ...string) string { return joinBelow(o.Proc, "/proc", names) }

func joinBelow(root, usual string, names []string) string {
	if root == "" {
		root = usual
	}
	return filepath.Join(append([]string{root}, names...)...)
}

// Collect returns the facts of the device below dir, and of the machine. It fails only
// if dir cannot be opened.
func Collect(dir string, o Options) (bench.Facts, error) {
	d, err := sys.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return bench.Facts{}, err
	}
	defer d.Close()
	f := o.machineFacts()
	if space, err := d.Space(); err == nil {
		f.Size, f.Free = &space.Size, &space.Free
	}
	m := o.findMount(d)
	m.addFacts(&f)
	if disk, found := o.findDisk(m, &f); found {
		disk.addFacts(&f)
	}
	if o.HideSerial {
		f.Serial = nil
	}
	return f, nil
}

// readText returns the contents of a file of one line, or nil if that is absent or
// empty. The kernel pads some lines with blanks.
func readText(path string) *string {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	return knownText(string(b))
}

// knownText returns the text without padding, or nil if it is empty.
func knownText(s string) *string {
	if s = strings.TrimSpace(strings.Trim(s, "\x00")); s == "" {
		return nil
	}
	return &s
}

func readNumber(path string) *int64 {
	s := readText(path)
	if s == nil {
		return nil
	}
	n, err := strconv.ParseInt(*s, 10, 64)
	if err != nil {
		return nil
	}
	return &n
}

// entryNames returns the names in a directory, none if the directory is absent.
func entryNames(dir string) (list []string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}
