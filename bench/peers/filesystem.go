package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"shard_to_ssd/internal/errs"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// disk is a loop device, with direct I/O, over an image that has no name any more.
// The kernel detaches it when the last who has it open is gone, and then frees the
// image: nothing is left of it, whatever way this process ends.
type disk struct {
	device *os.File
	size   int64
	direct bool // the kernel took direct I/O for the image
}

// newDisk makes a disk of size bytes in a directory. Every block of the image is
// written once: first writes into what is only reserved are slower, and would be
// charged to who comes first.
func newDisk(ctx context.Context, dir string, size int64) (*disk, error) {
	image, err := newImage(dir)
	if err != nil {
		return nil, err
	}
	defer image.Close()
	if err := unix.Fallocate(int(image.Fd()), 0, 0, size); err != nil {
		return nil, fmt.Errorf("reserve %s for a disk: %w", bytesText(size), err)
	}
	if err := fill(ctx, image, size); err != nil {
		return nil, err
	}
	device, err := attach(image)
	if err != nil {
		return nil, err
	}
	dio, _ := os.ReadFile("/sys/block/" + filepath.Base(device.Name()) + "/loop/dio")
	return &disk{device, size, strings.TrimSpace(string(dio)) == "1"}, nil
}

// newImage has had a name of its own: mkfs.btrfs takes devices over images of the
// same name for the same, and refuses them if one is mounted.
func newImage(dir string) (*os.File, error) {
	named, err := os.CreateTemp(dir, "disk-*.img")
	if err != nil {
		return nil, err
	}
	defer named.Close()
	image, err := os.OpenFile(named.Name(), os.O_RDWR|unix.O_DIRECT, 0)
	if errors.Is(err, unix.EINVAL) { // tmpfs before Linux 6.6: good enough to try this program on
		image, err = os.OpenFile(named.Name(), os.O_RDWR, 0)
	}
	return image, errs.Join(err, os.Remove(named.Name()))
}

// fill overwrites the image with noise, from memory that is aligned as O_DIRECT
// wants it.
func fill(ctx context.Context, image *os.File, size int64) error {
	buf, err := unix.Mmap(-1, 0, int(4*mib), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return os.NewSyscallError("mmap", err)
	}
	defer unix.Munmap(buf) //nolint:errcheck // nothing depends on it
	noise(buf, seeded("disk"))
	for off := int64(0); off < size && ctx.Err() == nil; off += int64(len(buf)) {
		if _, err := image.WriteAt(buf[:min(size-off, int64(len(buf)))], off); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// attach takes a free loop device. Another process may be quicker: then the next.
func attach(image *os.File) (*os.File, error) {
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
		device.Close()
		if !errors.Is(err, unix.EBUSY) {
			return nil, &os.PathError{Op: "configure", Path: device.Name(), Err: err}
		}
	}
}

func (d *disk) close() error { return d.device.Close() }

// kind is a file system, with the options that it is made and mounted with.
type kind struct {
	name  string
	mkfs  []string
	mount string
}

// kindOf knows three. Nothing may go on in the background: no lazy initialisation
// of inode tables, no discards. (The journal of ext4 is not zeroed at all, and
// nobody does that later.) The journal has a size of its own, as that of a small
// disk would be a few MiB.
func kindOf(name string, s sizes) kind {
	switch name {
	case "ext4":
		return kind{name, []string{"mkfs.ext4", "-q", "-F", "-b", "4096",
			"-J", fmt.Sprintf("size=%d", s.JournalMiB), "-E", "lazy_itable_init=0,lazy_journal_init=1,nodiscard"}, "nodiscard"}
	case "xfs":
		return kind{name, []string{"mkfs.xfs", "-q", "-f", "-K", "-m", "reflink=1"}, "nodiscard"}
	}
	return kind{"btrfs", []string{"mkfs.btrfs", "-q", "-f", "-K"}, "nodiscard"}
}

// format makes a fresh file system that has room for so many files.
func (d *disk) format(ctx context.Context, k kind, files int) error {
	args := k.mkfs[1:]
	if want := int64(files) + int64(files)/20 + 1000; k.name == "ext4" && want > d.size/(16*kib) {
		args = append(args, "-N", strconv.FormatInt(want, 10)) // the default is one for 16 KiB
	}
	return command(ctx, k.mkfs[0], append(args, d.device.Name())...)
}

// mount mounts what is on the disk.
func (d *disk) mount(dir, kind, options string, flags uintptr) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(d.device.Name(), dir, kind, flags, options); err != nil {
		return &os.PathError{Op: "mount " + kind, Path: dir, Err: err}
	}
	return nil
}

// unmount waits some seconds for those who still have something open, such as
// what a contender left behind.
func unmount(dir string) error {
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

// dropCaches writes everything back and empties the page cache, of the whole host.
func dropCaches() error {
	unix.Sync()
	return os.WriteFile("/proc/sys/vm/drop_caches", []byte("3\n"), 0)
}

// command runs a tool of the harness itself.
func command(ctx context.Context, name string, args ...string) error {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
