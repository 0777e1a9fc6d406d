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

// Step makes or changes one entry of the tree at root. Names are relative to root and may
// hold any bytes; "." is root itself. Missing directories on the way are made with mode
// 0755. The umask has no effect.
type Step func(root string) error

// Extent is a piece of a file, in bytes.
type Extent struct {
	Off, Len int64
}

// Apply makes the steps one after the other. The first that fails ends the test.
func Apply(t testing.TB, root string, steps ...Step) {
	t.Helper()
	for i, step := range steps {
		if err := step(root); err != nil {
			t.Fatalf("step %d of %d: %v", i+1, len(steps), err)
		}
	}
}

// stepOn returns a step that calls do with the entry called name. op is the operation in
// its error.
func stepOn(op, name string, do func(entry) error) Step {
	return func(root string) error {
		if err := withEntry(root, name, do); err != nil {
			return &fs.PathError{Op: op, Path: root + "/" + name, Err: err}
		}
		return nil
	}
}

// File makes a regular file with mode 0644. Its size bytes depend only on the seed, and
// contain no blocks of zeros.
func File(name string, size int64, seed uint64) Step {
	return createFile(name, func(f *os.File) error {
		_, err := io.CopyN(f, randomBytes(seed), size)
		return err
	})
}

// TextFile makes a regular file with mode 0644 that contains the text.
func TextFile(name, text string) Step {
	return createFile(name, func(f *os.File) error {
		_, err := f.WriteString(text)
		return err
	})
}

// Sparse makes a regular file of size bytes that is a hole except for the extents. The
// space that it takes depends on the file system's block size.
func Sparse(name string, size int64, extents []Extent) Step {
	return createFile(name, func(f *os.File) error {
		// Set the size first: XFS preallocates behind writes that extend a file,
		// and would fill the hole there.
		if err := f.Truncate(size); err != nil {
			return err
		}
		for _, x := range extents {
			to := io.NewOffsetWriter(f, x.Off)
			if _, err := io.CopyN(to, randomBytes(uint64(x.Off)), x.Len); err != nil {
				return err
			}
		}
		return nil
	})
}

func createFile(name string, fill func(*os.File) error) Step {
	return stepOn("create", name, func(e entry) error {
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

func randomBytes(seed uint64) io.Reader {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	return rand.NewChaCha8(key)
}

// Write overwrites bytes of a file in place, from off.
func Write(name string, off int64, text string) Step {
	return stepOn("write", name, func(e entry) error {
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

// Truncate shortens a file to size bytes, or extends it with a hole.
func Truncate(name string, size int64) Step {
	return stepOn("truncate", name, func(e entry) error {
		f, err := e.open(unix.O_WRONLY, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		return f.Truncate(size)
	})
}

// Dir makes a directory with this mode. If the mode would keep later steps from making
// entries in it, use [Chmod] after them.
func Dir(name string, mode uint32) Step {
	return stepOn("mkdir", name, func(e entry) error { return makeDir(e, mode) })
}

// Symlink makes a symbolic link called name with this target.
func Symlink(target, name string) Step {
	return stepOn("symlink", name, func(e entry) error {
		return unix.Symlinkat(target, e.dir, e.name)
	})
}

// Hardlink makes one more name for old, which may be a symbolic link.
func Hardlink(old, name string) Step {
	return stepOnTwo("link", old, name, func(from, to entry) error {
		return unix.Linkat(from.dir, from.name, to.dir, to.name, 0)
	})
}

// Rename renames old to name, and replaces an entry of that name.
func Rename(old, name string) Step {
	return stepOnTwo("rename", old, name, func(from, to entry) error {
		return unix.Renameat(from.dir, from.name, to.dir, to.name)
	})
}

func stepOnTwo(op, old, name string, do func(from, to entry) error) Step {
	return func(root string) error {
		return stepOn(op, old, func(from entry) error {
			return withEntry(root, name, func(to entry) error { return do(from, to) })
		})(root)
	}
}

// Remove removes a name, or an empty directory.
func Remove(name string) Step {
	return stepOn("remove", name, func(e entry) error {
		err := unix.Unlinkat(e.dir, e.name, 0)
		if err == unix.EISDIR {
			err = unix.Unlinkat(e.dir, e.name, unix.AT_REMOVEDIR)
		}
		return err
	})
}

// FIFO makes a named pipe.
func FIFO(name string) Step { return makeNode(name, unix.S_IFIFO|0o644, 0) }

// Socket makes a socket on which no process listens.
func Socket(name string) Step { return makeNode(name, unix.S_IFSOCK|0o644, 0) }

// Device makes a character device with these numbers. It needs root.
func Device(name string, major, minor uint32) Step {
	return makeNode(name, unix.S_IFCHR|0o600, unix.Mkdev(major, minor))
}

func makeNode(name string, mode uint32, device uint64) Step {
	return stepOn("mknod", name, func(e entry) error {
		if err := unix.Mknodat(e.dir, e.name, mode, int(device)); err != nil {
			return err
		}
		return unix.Fchmodat(e.dir, e.name, mode&0o7777, 0)
	})
}

// Chmod sets the twelve mode bits of chmod(2).
func Chmod(name string, mode uint32) Step {
	return stepOn("chmod", name, func(e entry) error {
		return unix.Fchmodat(e.dir, e.name, mode, 0)
	})
}

// Chown sets owner and group. It follows no link. It clears setuid, setgid and
// security.capability of a file.
func Chown(name string, uid, gid int) Step {
	return stepOn("chown", name, func(e entry) error {
		return unix.Fchownat(e.dir, e.name, uid, gid, unix.AT_SYMLINK_NOFOLLOW)
	})
}

// Times sets access and modification time. It follows no link. A file system clamps times
// that it cannot store: ext4 stores 1901-12-13 to 2446-05-10, XFS 1901-12-13 to
// 2486-07-02.
func Times(name string, atime, mtime time.Time) Step {
	return stepOn("set times of", name, func(e entry) error {
		var ts [2]unix.Timespec
		for i, when := range []time.Time{atime, mtime} {
			ts[i] = unix.Timespec{Sec: when.Unix(), Nsec: int64(when.Nanosecond())}
		}
		return unix.UtimesNanoAt(e.dir, e.name, ts[:], unix.AT_SYMLINK_NOFOLLOW)
	})
}

// Xattr sets an extended attribute. It follows no link.
func Xattr(name, attr, value string) Step {
	return stepOn("set xattr "+attr+" of", name, func(e entry) error {
		return unix.Lsetxattr(e.path(), attr, []byte(value), 0)
	})
}

// DropXattr removes an extended attribute. It follows no link.
func DropXattr(name, attr string) Step {
	return stepOn("remove xattr "+attr+" of", name, func(e entry) error {
		return unix.Lremovexattr(e.path(), attr)
	})
}

// The extended attributes that hold POSIX ACLs.
const (
	AccessACL  = "system.posix_acl_access"
	DefaultACL = "system.posix_acl_default"
)

// CapNetRaw is the value of security.capability for cap_net_raw+ep, as
// struct vfs_cap_data of linux/capability.h, revision 2.
const CapNetRaw = "\x01\x00\x00\x02" + "\x00\x20\x00\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00\x00\x00\x00\x00"

// ACL sets an ACL with the mode bits and an entry for the user uid with the permissions
// perm (0 to 7). Its mask makes the entry effective. kind is AccessACL, or DefaultACL for
// a directory.
func ACL(name, kind string, uid, perm uint32) Step {
	return stepOn("set ACL of", name, func(e entry) error {
		st, err := e.stat()
		if err != nil {
			return err
		}
		return unix.Lsetxattr(e.path(), kind, aclValue(st.Mode, uid, perm), 0)
	})
}

// aclValue returns an ACL in the layout of linux/posix_acl_xattr.h: version 2, then tag,
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
