package torture

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/testkit"
)

// machine is a host with two disks of one kind of file system, for the SSD dir and for
// the lock dir. Its power can be cut. The source is on a disk that stays.
//
// One disk would hide errors: each sync writes the journal of the whole file system, so
// that a sync of the user file would also save data on the SSD that was not synced.
type machine struct {
	*host
	kind   string
	dir    string // it has the mount points
	rack   *rack
	supply *supply
	booted int
}

// image is the content of the disks of a machine that is off: of the SSD, and of the
// disk with the lock dir.
type image []sectors

var mountPoints = []string{"ssd", "locks"}

// newMachine returns a machine that is off, and the content of its new disks.
func newMachine(t testing.TB, r *rack, kind, bin string) (*machine, image) {
	t.Helper()
	testkit.RequireRoot(t)
	testkit.RequireTools(t, "mkfs."+kind)
	m := &machine{kind: kind, dir: t.TempDir(), rack: r}
	m.host = &host{bin: bin, locks: filepath.Join(m.dir, "locks", "dir"), ssd: filepath.Join(m.dir, "ssd")}
	blank := image{}
	for _, name := range mountPoints {
		if err := os.Mkdir(filepath.Join(m.dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
		blank = append(blank, m.formatDisks(t, name))
	}
	t.Cleanup(func() {
		if err := m.unmountAll(); err != nil {
			t.Error(err)
		}
	})
	if err := m.boot(blank); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(m.locks, 0o755); err != nil {
		t.Fatal(err)
	}
	return m, m.shutDown(t)
}

func (m *machine) formatDisks(t testing.TB, name string) sectors {
	t.Helper()
	p := &supply{}
	device, fd, err := m.rack.plugDisk(p, m.kind+name, sectors{})
	if err != nil {
		t.Fatal(err)
	}
	testkit.RunCommand(t, "mkfs."+m.kind, map[string][]string{
		"ext4":  {"-q", "-F", "-b", "4096", "-I", "256", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard", device},
		"xfs":   {"-q", "-f", "-K", device},
		"btrfs": {"-q", "-f", "-K", device},
	}[m.kind]...)
	if err := unix.Close(fd); err != nil {
		t.Fatal(err)
	}
	m.rack.unplugDisk(m.kind + name)
	return p.cutPower(keepAll)[0]
}

// boot attaches disks with these contents and mounts them, which replays the journals.
func (m *machine) boot(on image) error {
	m.supply = &supply{}
	m.booted++
	for i, name := range mountPoints {
		device, fd, err := m.rack.plugDisk(m.supply, m.diskName(name), on[i])
		if err != nil {
			return err
		}
		err = unix.Mount(device, filepath.Join(m.dir, name), m.kind, 0, "")
		unix.Close(fd)
		if err != nil {
			return fmt.Errorf("mount the %s disk, %s, on %s: %w", name, m.kind, device, err)
		}
	}
	return nil
}

func (m *machine) diskName(name string) string {
	return fmt.Sprintf("%s-%s-%d", m.kind, name, m.booted)
}

// unmountAll unmounts all disks that are mounted.
func (m *machine) unmountAll() (err error) {
	for _, name := range mountPoints {
		failed := unix.Unmount(filepath.Join(m.dir, name), unix.UMOUNT_NOFOLLOW)
		if failed != nil && failed != unix.EINVAL {
			err = errors.Join(err, fmt.Errorf("unmount the %s disk, %s: %w", name, m.kind, failed))
		}
		m.rack.unplugDisk(m.diskName(name))
	}
	return err
}

// shutDown unmounts the disks in order and returns their contents.
func (m *machine) shutDown(t testing.TB) image {
	t.Helper()
	if err := m.unmountAll(); err != nil {
		t.Fatal(err)
	}
	return m.supply.cutPower(keepAll)
}

// attachLoop attaches the file to a free loop device. Its logical blocks have the size
// of a sector, so that no file system relies on smaller writes.
func attachLoop(path string) (device string, fd int, err error) {
	backing, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", -1, fmt.Errorf("open %s: %w", path, err)
	}
	defer unix.Close(backing)
	control, err := unix.Open("/dev/loop-control", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", -1, fmt.Errorf("open the loop control: %w", err)
	}
	defer unix.Close(control)
	config := unix.LoopConfig{Fd: uint32(backing), Size: sectorSize}
	config.Info.Flags = unix.LO_FLAGS_AUTOCLEAR | unix.LO_FLAGS_DIRECT_IO
	for {
		n, err := unix.IoctlRetInt(control, unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return "", -1, fmt.Errorf("free loop device: %w", err)
		}
		device = fmt.Sprint("/dev/loop", n)
		if fd, err = unix.Open(device, unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
			return "", -1, fmt.Errorf("open %s: %w", device, err)
		}
		switch err = unix.IoctlLoopConfigure(fd, &config); err {
		case nil:
			return device, fd, nil
		case unix.EBUSY: // another process was faster
			unix.Close(fd)
		default:
			unix.Close(fd)
			return "", -1, fmt.Errorf("configure %s: %w", device, err)
		}
	}
}

// Flags of the shutdown ioctl, which is the same for ext4 and XFS (EXT4_IOC_SHUTDOWN,
// XFS_IOC_GOINGDOWN).
const (
	shutDownDefault    = iota // writes everything first
	shutDownLogFlush          // writes the journal
	shutDownNoLogFlush        // writes nothing
	shutDownFlags
)

// shutDownFS stops a mounted file system without unmounting it: from then on it fails
// with EIO and writes nothing.
func shutDownFS(dir string, flag uint32) error {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	const request = 0x8004587d // _IOR('X', 125, __u32)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(unsafe.Pointer(&flag))); errno != 0 {
		return fmt.Errorf("shut down %s: %w", dir, errno)
	}
	return nil
}
