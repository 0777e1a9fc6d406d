package peers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/errs"
)

// disk is a loop device with direct I/O over an image that has no name. The kernel
// detaches the device when the last process closes it, and then frees the image. So
// nothing is left, however this process ends.
type disk struct {
	device *os.File
	size   int64
	direct bool // the kernel accepted direct I/O for the image
}

// newDisk makes a disk of size bytes in a directory. It writes every block of the image
// once: the first write into reserved space is slower, and the first contender would
// pay for it.
func newDisk(ctx context.Context, dir string, size int64) (*disk, error) {
	image, err := newImage(dir)
	if err != nil {
		return nil, err
	}
	defer image.Close() // the loop device keeps it open
	if err := unix.Fallocate(int(image.Fd()), 0, 0, size); err != nil {
		return nil, fmt.Errorf("reserve %s for a disk: %w", formatBytes(size), err)
	}
	if err := overwriteImage(ctx, image, size); err != nil {
		return nil, err
	}
	device, err := attachLoop(image)
	if err != nil {
		return nil, err
	}
	dio, _ := os.ReadFile("/sys/block/" + filepath.Base(device.Name()) + "/loop/dio")
	return &disk{device, size, strings.TrimSpace(string(dio)) == "1"}, nil
}

// newImage makes a file and removes its name. The name must be unique: mkfs.btrfs
// takes devices over images of the same name for the same device, and refuses them if
// one is mounted.
func newImage(dir string) (*os.File, error) {
	named, err := os.CreateTemp(dir, "disk-*.img")
	if err != nil {
		return nil, err
	}
	defer named.Close()
	image, err := os.OpenFile(named.Name(), os.O_RDWR|unix.O_DIRECT, 0)
	if errors.Is(err, unix.EINVAL) { // tmpfs before Linux 6.6, which is good enough for tests
		image, err = os.OpenFile(named.Name(), os.O_RDWR, 0)
	}
	return image, errs.Join(err, os.Remove(named.Name()))
}

// overwriteImage fills the image with noise. The memory is mapped, because O_DIRECT
// needs aligned memory.
func overwriteImage(ctx context.Context, image *os.File, size int64) error {
	buf, err := unix.Mmap(-1, 0, int(4*mib), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return os.NewSyscallError("mmap", err)
	}
	defer func() { _ = unix.Munmap(buf) }() // nothing depends on it
	fillNoise(buf, seededRandom("disk"))
	for off := int64(0); off < size && ctx.Err() == nil; off += int64(len(buf)) {
		if _, err := image.WriteAt(buf[:min(size-off, int64(len(buf)))], off); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// attachLoop takes a free loop device. If another process takes that first, it tries
// the next.
func attachLoop(image *os.File) (*os.File, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer control.Close()
	for {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fmt.Errorf("find a free loop device: %w", err)
		}
		device, err := os.OpenFile(fmt.Sprintf("/dev/loop%d", n), os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		err = unix.IoctlLoopConfigure(int(device.Fd()), &unix.LoopConfig{
			Fd:   uint32(image.Fd()),
			Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR | unix.LO_FLAGS_DIRECT_IO},
		})
		if err == nil {
			return device, nil
		}
		_ = device.Close()
		if !errors.Is(err, unix.EBUSY) {
			return nil, &os.PathError{Op: "configure", Path: device.Name(), Err: err}
		}
	}
}

// detach closes the device, which frees the image.
func (d *disk) detach() error { return d.device.Close() }

// fileSystem is a type of file system, with the options that make and mount it.
type fileSystem struct {
	name  string
	mkfs  []string
	mount string
}

// fileSystemOf returns the options for ext4, xfs or btrfs. No work may be left for the
// background: no lazy initialisation of inode tables, no discards. The journal of ext4
// is not zeroed, and the kernel does not do that later. The size of the journal is
// given, because a small disk would get a journal of a few MiB.
func fileSystemOf(name string, s sizes) fileSystem {
	switch name {
	case "ext4":
		return fileSystem{name, []string{"mkfs.ext4", "-q", "-F", "-b", "4096",
			"-J", fmt.Sprintf("size=%d", s.JournalMiB), "-E", "lazy_itable_init=0,lazy_journal_init=1,nodiscard"}, "nodiscard"}
	case "xfs":
		return fileSystem{name, []string{"mkfs.xfs", "-q", "-f", "-K", "-m", "reflink=1"}, "nodiscard"}
	}
	return fileSystem{"btrfs", []string{"mkfs.btrfs", "-q", "-f", "-K"}, "nodiscard"}
}

// makeFileSystem makes a fresh file system with room for so many files.
func (d *disk) makeFileSystem(ctx context.Context, f fileSystem, files int) error {
	args := f.mkfs[1:]
	if want := int64(files) + int64(files)/20 + 1000; f.name == "ext4" && want > d.size/(16*kib) {
		args = append(args, "-N", strconv.FormatInt(want, 10)) // the default is one inode per 16 KiB
	}
	return runTool(ctx, f.mkfs[0], append(args, d.device.Name())...)
}

// mountAt mounts the file system of the disk.
func (d *disk) mountAt(dir, kind, options string, flags uintptr) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(d.device.Name(), dir, kind, flags, options); err != nil {
		return &os.PathError{Op: "mount " + kind, Path: dir, Err: err}
	}
	return nil
}

// unmountBusy unmounts, and waits up to 10 s for processes that still have a file open,
// such as a process that a contender left behind.
func unmountBusy(dir string) error {
	for tries := 0; ; tries++ {
		err := unix.Unmount(dir, unix.UMOUNT_NOFOLLOW)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) || tries == 100 {
			return &os.PathError{Op: "unmount", Path: dir, Err: err}
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// dropCaches writes dirty pages back and empties the page cache of the whole host.
func dropCaches() error {
	unix.Sync()
	return os.WriteFile("/proc/sys/vm/drop_caches", []byte("3\n"), 0)
}

// runTool runs a program that the measurement itself needs.
func runTool(ctx context.Context, name string, args ...string) error {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
