package testkit

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// FS is a file system to test on. Dir is an empty directory of it: its mount
// point, if it was mounted for the test.
type FS struct {
	Name string
	Dir  string
}

// FileSystems are those that the project is tested on, empty, of 1 GiB each.
// See [FileSystemsOf].
func FileSystems(t testing.TB) []FS {
	t.Helper()
	return FileSystemsOf(t, 1<<30)
}

// FileSystemsOf are ext4, XFS, btrfs and tmpfs, each of size bytes. What cannot
// be mounted is left out with a word in the log, and a test that may not mount
// gets only the file system of its temporary directory, called "tempdir". With
// SHARD_TO_SSD_TESTS=all leaving anything out fails the test.
func FileSystemsOf(t testing.TB, size int64) []FS {
	t.Helper()
	if !mayMount() {
		leaveOut(t, "ext4, XFS, btrfs and tmpfs: mounting needs root")
		return []FS{{"tempdir", t.TempDir()}}
	}
	var all []FS
	for _, kind := range []string{"ext4", "xfs", "btrfs", "tmpfs"} {
		if tool := absent(mountTools(kind)...); tool != "" {
			leaveOut(t, kind+": "+wanted(tool))
			continue
		}
		all = append(all, FS{kind, Mount(t, kind, size)})
	}
	return all
}

// Mount makes a file system of the kind ext4, xfs, btrfs or tmpfs of size bytes
// and mounts it until the end of the test. XFS takes no less than 300 MiB and
// btrfs about 110 MiB. A test process that is killed leaves its mounts behind.
func Mount(t testing.TB, kind string, size int64) string {
	t.Helper()
	if !mayMount() {
		forgo(t, "mounting "+kind+" needs root")
	}
	Need(t, mountTools(kind)...)
	// TempDir first: its removal is then cleaned up after the unmounting.
	base := t.TempDir()
	dir := filepath.Join(base, kind)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	// From here on, so that a mount that half failed is undone as well.
	t.Cleanup(func() { unmount(t, dir) })
	if kind == "tmpfs" {
		Command(t, "mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%d,mode=0755", size), "tmpfs", dir)
		return dir
	}
	mountImage(t, kind, size, filepath.Join(base, kind+".img"), dir)
	return dir
}

// mountImage leaves detaching the loop device to the kernel: mount asks for
// that (LO_FLAGS_AUTOCLEAR), and it holds for a lazy unmount too.
func mountImage(t testing.TB, kind string, size int64, image, dir string) {
	t.Helper()
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, size); err != nil {
		t.Fatal(err)
	}
	options := "loop"
	switch kind {
	case "ext4":
		// 4 KiB blocks also on a small one; 256-byte inodes keep nanoseconds.
		Command(t, "mkfs.ext4", "-q", "-F", "-b", "4096", "-I", "256",
			"-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard", image)
		options += ",noinit_itable" // no thread that writes behind a measurement
	case "xfs":
		Command(t, "mkfs.xfs", "-q", "-f", "-K", "-m", "reflink=1,bigtime=1", image)
	case "btrfs":
		Command(t, "mkfs.btrfs", "-q", "-f", "-K", image)
	default:
		t.Fatalf("mount %q: want ext4, xfs, btrfs or tmpfs", kind)
	}
	Command(t, "mount", "-t", kind, "-o", options, image, dir)
	_ = os.Remove(filepath.Join(dir, "lost+found"))
}

// unmount is silent where nothing is mounted. It makes the calls itself: the
// test's context, which ends commands, is done when cleaning up.
func unmount(t testing.TB, dir string) {
	err := unix.Unmount(dir, unix.UMOUNT_NOFOLLOW)
	if err == nil || err == unix.EINVAL {
		return
	}
	t.Errorf("unmount %s: %v (something still has it open); now detached", dir, err)
	if err := unix.Unmount(dir, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
		t.Errorf("detach %s: %v", dir, err)
	}
}

func mountTools(kind string) []string {
	if kind == "tmpfs" {
		return []string{"mount"}
	}
	return []string{"mount", "mkfs." + kind}
}

// mayMount asks for the capability, since root in a container may lack it.
func mayMount() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return false
	}
	return isRoot() && data[0].Effective&(1<<unix.CAP_SYS_ADMIN) != 0
}

func isRoot() bool { return os.Geteuid() == 0 }

// Command runs a command and returns what it wrote, standard error included.
// If it fails, the test ends with that.
func Command(t testing.TB, name string, args ...string) string {
	t.Helper()
	path := find(name)
	if path == "" {
		t.Fatal(wanted(name))
	}
	out, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// Need skips the test if a tool is not installed, naming its Debian package.
// With SHARD_TO_SSD_TESTS=all the test fails.
func Need(t testing.TB, tools ...string) {
	t.Helper()
	if tool := absent(tools...); tool != "" {
		forgo(t, wanted(tool))
	}
}

// NeedRoot skips the test, or fails it with SHARD_TO_SSD_TESTS=all, if it does
// not run as root.
func NeedRoot(t testing.TB) {
	t.Helper()
	if !isRoot() {
		forgo(t, "needs root")
	}
}

func absent(tools ...string) string {
	for _, tool := range tools {
		if find(tool) == "" {
			return tool
		}
	}
	return ""
}

// find also looks where a PATH inherited by su on Debian does not.
func find(tool string) string {
	if path, err := exec.LookPath(tool); err == nil {
		return path
	}
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, tool)); err == nil {
			return path
		}
	}
	return ""
}

func wanted(tool string) string {
	return fmt.Sprintf("%s is not installed: apt-get install %s", tool, debianPackage(tool))
}

func debianPackage(tool string) string {
	switch tool {
	case "mkfs.ext4", "mke2fs", "debugfs", "lsattr", "chattr":
		return "e2fsprogs"
	case "mkfs.xfs", "xfs_io":
		return "xfsprogs"
	case "mkfs.btrfs", "btrfs":
		return "btrfs-progs"
	case "setfacl", "getfacl":
		return "acl"
	case "setfattr", "getfattr":
		return "attr"
	case "setcap", "getcap", "capsh":
		return "libcap2-bin"
	case "xxhsum", "xxh64sum":
		return "xxhash"
	case "cp", "stat", "sync", "truncate":
		return "coreutils"
	case "losetup", "umount":
		return "mount"
	case "unshare", "flock", "setpriv":
		return "util-linux"
	case "dmsetup":
		return "dmsetup"
	}
	return tool // rsync, strace, tar, gcc, make, python3, fio, mount: the same name
}

// leaveOut goes on without a part of the test; forgo without the whole of it.
func leaveOut(t testing.TB, what string) {
	t.Helper()
	if wantAll() {
		t.Fatalf("left out %s, and SHARD_TO_SSD_TESTS=all forbids that", what)
	}
	t.Logf("left out %s", what)
}

func forgo(t testing.TB, why string) {
	t.Helper()
	if wantAll() {
		t.Fatalf("%s, and SHARD_TO_SSD_TESTS=all forbids skipping", why)
	}
	t.Skip(why)
}

func wantAll() bool { return os.Getenv("SHARD_TO_SSD_TESTS") == "all" }
