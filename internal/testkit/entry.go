package testkit

import (
	"bytes"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// entry is a name in an open directory. All calls use such pairs, because a path may be
// longer than the kernel takes in one call (PATH_MAX).
type entry struct {
	dir  int
	name string
}

// rootEntry returns the entry of a path that the test gave.
func rootEntry(path string) entry { return entry{unix.AT_FDCWD, path} }

func (e entry) stat() (st unix.Stat_t, err error) {
	err = unix.Fstatat(e.dir, e.name, &st, unix.AT_SYMLINK_NOFOLLOW)
	return st, err
}

// open never follows a link and never waits for the other end of a FIFO.
func (e entry) open(flags int, mode uint32) (*os.File, error) {
	flags |= unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
	fd, err := unix.Openat(e.dir, e.name, flags, mode)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), e.name), nil
}

// list opens a directory and reads its names, sorted by bytes.
func (e entry) list() (*os.File, []string, error) {
	dir, err := e.open(unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, nil, err
	}
	names, err := dir.Readdirnames(-1)
	if err != nil {
		dir.Close()
		return nil, nil, err
	}
	slices.Sort(names)
	return dir, names, nil
}

func (e entry) target() (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(e.dir, e.name, buf)
	return string(buf[:max(n, 0)]), err
}

// path returns a path for the calls that cannot be relative to a directory.
func (e entry) path() string {
	if e.dir == unix.AT_FDCWD {
		return e.name
	}
	return "/proc/self/fd/" + strconv.Itoa(e.dir) + "/" + e.name
}

// xattrs reads the extended attributes for which keep returns true.
func (e entry) xattrs(keep func(attr string) bool) (map[string]string, error) {
	list := make([]byte, 64<<10) // XATTR_LIST_MAX
	n, err := unix.Llistxattr(e.path(), list)
	if err == unix.EOPNOTSUPP {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	values := map[string]string{}
	for attr := range bytes.SplitSeq(list[:n], []byte{0}) {
		if len(attr) == 0 || !keep(string(attr)) {
			continue
		}
		value := make([]byte, 64<<10) // XATTR_SIZE_MAX
		n, err := unix.Lgetxattr(e.path(), string(attr), value)
		if err != nil {
			return nil, err
		}
		values[string(attr)] = string(value[:n])
	}
	return values, nil
}

// withEntry calls do with the entry called name under root. It makes missing directories
// on the way.
func withEntry(root, name string, do func(entry) error) error {
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(dir) }()
	parts := strings.Split(strings.Trim(name, "/"), "/")
	last := len(parts) - 1
	for _, part := range parts[:last] {
		next, err := openOrMakeDir(entry{dir, part})
		if err != nil {
			return err
		}
		_ = unix.Close(dir)
		dir = next
	}
	return do(entry{dir, parts[last]})
}

// openOrMakeDir opens a directory. If it is missing, it is made with mode 0755, without
// regard to the umask. O_PATH needs no permission to read it.
func openOrMakeDir(e entry) (int, error) {
	const flags = unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Openat(e.dir, e.name, flags, 0)
	if err != unix.ENOENT {
		return fd, err
	}
	if err := makeDir(e, 0o755); err != nil {
		return -1, err
	}
	return unix.Openat(e.dir, e.name, flags, 0)
}

func makeDir(e entry, mode uint32) error {
	if err := unix.Mkdirat(e.dir, e.name, 0o700); err != nil {
		return err
	}
	return unix.Fchmodat(e.dir, e.name, mode, 0)
}
