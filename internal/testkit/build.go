package testkit

import (
	"encoding/binary"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Step makes or changes one entry of the tree at root. Names are relative to
// root and may hold any bytes, "." is root itself, and directories on the way
// that are missing are made with mode 0755. The umask does not matter.
type Step func(root string) error

// Extent is a piece of a file, in bytes.
type Extent struct {
	Off, Len int64
}

// Apply takes the steps one after the other. The first that fails ends the test.
func Apply(t testing.TB, root string, steps ...Step) {
	t.Helper()
	for i, step := range steps {
		if err := step(root); err != nil {
			t.Fatalf("step %d of %d: %v", i+1, len(steps), err)
		}
	}
}

// on is a step of one call, its error named.
func on(op, name string, do func(entry) error) Step {
	return func(root string) error {
		if err := below(root, name, do); err != nil {
			return &fs.PathError{Op: op, Path: root + "/" + name, Err: err}
		}
		return nil
	}
}

// File is a regular file with mode 0644 and size bytes that depend on the seed
// only and hold no blocks of zeros.
func File(name string, size int64, seed uint64) Step {
	return create(name, func(f *os.File) error {
		_, err := io.CopyN(f, noise(seed), size)
		return err
	})
}

// Content is a regular file with mode 0644 and the text in it.
func Content(name, text string) Step {
	return create(name, func(f *os.File) error {
		_, err := f.WriteString(text)
		return err
	})
}

// Sparse is a regular file of size bytes, a hole except for the extents. What
// it allocates depends on the file system's block size.
func Sparse(name string, size int64, extents []Extent) Step {
	return create(name, func(f *os.File) error {
		// The size comes first: XFS preallocates behind writes that extend a
		// file, into what shall be a hole.
		if err := f.Truncate(size); err != nil {
			return err
		}
		for _, x := range extents {
			to := io.NewOffsetWriter(f, x.Off)
			if _, err := io.CopyN(to, noise(uint64(x.Off)), x.Len); err != nil {
				return err
			}
		}
		return nil
	})
}

func create(name string, fill func(*os.File) error) Step {
	return on("create", name, func(e entry) error {
		f, err := e.open(unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC, 0o600)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := fill(f); err != nil {
			return err
		}
		if err := f.Chmod(0o644); err != nil {
			return err
		}
		return f.Close()
	})
}

func noise(seed uint64) io.Reader {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	return rand.NewChaCha8(key)
}

// Write overwrites bytes of a file in place.
func Write(name string, off int64, text string) Step {
	return on("write", name, func(e entry) error {
		f, err := e.open(unix.O_WRONLY, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		if _, err := f.WriteAt([]byte(text), off); err != nil {
			return err
		}
		return f.Close()
	})
}

// Truncate cuts a file to size bytes, or lengthens it with a hole.
func Truncate(name string, size int64) Step {
	return on("truncate", name, func(e entry) error {
		f, err := e.open(unix.O_WRONLY, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		return f.Truncate(size)
	})
}

// Dir is a directory with this mode. See [Chmod] for a mode that keeps later
// steps from making entries in it.
func Dir(name string, mode uint32) Step {
	return on("mkdir", name, func(e entry) error { return makeDir(e, mode) })
}

// Symlink is a link called name with this target.
func Symlink(target, name string) Step {
	return on("symlink", name, func(e entry) error {
		return unix.Symlinkat(target, e.dir, e.name)
	})
}

// Hardlink is one more name for old, which may be a symbolic link itself.
func Hardlink(old, name string) Step {
	return both("link", old, name, func(from, to entry) error {
		return unix.Linkat(from.dir, from.name, to.dir, to.name, 0)
	})
}

// Rename renames over what is there.
func Rename(old, name string) Step {
	return both("rename", old, name, func(from, to entry) error {
		return unix.Renameat(from.dir, from.name, to.dir, to.name)
	})
}

func both(op, old, name string, do func(from, to entry) error) Step {
	return func(root string) error {
		return on(op, old, func(from entry) error {
			return below(root, name, func(to entry) error { return do(from, to) })
		})(root)
	}
}

// Remove removes a name, or an empty directory.
func Remove(name string) Step {
	return on("remove", name, func(e entry) error {
		err := unix.Unlinkat(e.dir, e.name, 0)
		if err == unix.EISDIR {
			err = unix.Unlinkat(e.dir, e.name, unix.AT_REMOVEDIR)
		}
		return err
	})
}

// FIFO is a named pipe.
func FIFO(name string) Step { return node(name, unix.S_IFIFO|0o644, 0) }

// Socket is a socket that nobody listens on.
func Socket(name string) Step { return node(name, unix.S_IFSOCK|0o644, 0) }

// Device is a character device with these numbers. It needs root.
func Device(name string, major, minor uint32) Step {
	return node(name, unix.S_IFCHR|0o600, unix.Mkdev(major, minor))
}

func node(name string, mode uint32, device uint64) Step {
	return on("mknod", name, func(e entry) error {
		if err := unix.Mknodat(e.dir, e.name, mode, int(device)); err != nil {
			return err
		}
		return unix.Fchmodat(e.dir, e.name, mode&0o7777, 0)
	})
}

// Chmod sets the twelve mode bits, as chmod(2) counts them.
func Chmod(name string, mode uint32) Step {
	return on("chmod", name, func(e entry) error {
		return unix.Fchmodat(e.dir, e.name, mode, 0)
	})
}

// Chown sets owner and group, of a link itself. It clears setuid, setgid and
// security.capability of a file.
func Chown(name string, uid, gid int) Step {
	return on("chown", name, func(e entry) error {
		return unix.Fchownat(e.dir, e.name, uid, gid, unix.AT_SYMLINK_NOFOLLOW)
	})
}

// Times sets the times, of a link itself. The file system clamps what it cannot
// keep: ext4 keeps 1901-12-13 to 2446-05-10, XFS 1901-12-13 to 2486-07-02.
func Times(name string, atime, mtime time.Time) Step {
	return on("set times of", name, func(e entry) error {
		var ts [2]unix.Timespec
		for i, when := range []time.Time{atime, mtime} {
			ts[i] = unix.Timespec{Sec: when.Unix(), Nsec: int64(when.Nanosecond())}
		}
		return unix.UtimesNanoAt(e.dir, e.name, ts[:], unix.AT_SYMLINK_NOFOLLOW)
	})
}

// Xattr sets an extended attribute, of a link itself.
func Xattr(name, attr, value string) Step {
	return on("set xattr "+attr+" of", name, func(e entry) error {
		return unix.Lsetxattr(e.path(), attr, []byte(value), 0)
	})
}

// DropXattr removes an extended attribute.
func DropXattr(name, attr string) Step {
	return on("remove xattr "+attr+" of", name, func(e entry) error {
		return unix.Lremovexattr(e.path(), attr)
	})
}

// The attributes that POSIX ACLs are reached by.
const (
	AccessACL  = "system.posix_acl_access"
	DefaultACL = "system.posix_acl_default"
)

// CapNetRaw is the value of security.capability for cap_net_raw+ep, as
// struct vfs_cap_data of linux/capability.h, revision 2.
const CapNetRaw = "\x01\x00\x00\x02" + "\x00\x20\x00\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00\x00\x00\x00\x00"

// ACL adds an entry for the user uid with the permissions perm (0 to 7) to what
// the mode bits say, and the mask that lets it count. Kind is AccessACL, or
// DefaultACL for a directory.
func ACL(name, kind string, uid, perm uint32) Step {
	return on("set ACL of", name, func(e entry) error {
		st, err := e.stat()
		if err != nil {
			return err
		}
		return unix.Lsetxattr(e.path(), kind, aclValue(st.Mode, uid, perm), 0)
	})
}

// aclValue is laid out as in linux/posix_acl_xattr.h: version 2, then tag,
// permissions and id of each entry, in the order of the tags.
func aclValue(mode, uid, perm uint32) []byte {
	const userObj, user, groupObj, mask, other, none = 1, 2, 4, 16, 32, ^uint32(0)
	group := mode >> 3 & 7
	value := binary.LittleEndian.AppendUint32(nil, 2)
	for _, entry := range [][3]uint32{
		{userObj, mode >> 6 & 7, none},
		{user, perm, uid},
		{groupObj, group, none},
		{mask, group | perm, none},
		{other, mode & 7, none},
	} {
		value = binary.LittleEndian.AppendUint16(value, uint16(entry[0]))
		value = binary.LittleEndian.AppendUint16(value, uint16(entry[1]))
		value = binary.LittleEndian.AppendUint32(value, entry[2])
	}
	return value
}
