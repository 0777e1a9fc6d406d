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

// FS is a file system for a test.
type FS struct {
	Name string
	Dir  string // an empty directory: the mount point, if it was mounted for the test
}

// FileSystems returns the file systems that the project is tested on, empty and of 1 GiB
// each. See [FileSystemsOf].
func FileSystems(t testing.TB) []FS {
	t.Helper()
	return FileSystemsOf(t, 1<<30)
}

// FileSystemsOf returns ext4, XFS, btrfs and tmpfs, each of size bytes. It leaves out a
// file system whose tools are missing, and logs that. A test that may not mount gets
// only the file system of its temporary directory, called "tempdir". With
// SHARD_TO_SSD_TESTS=all the test fails if anything is left out.
func FileSystemsOf(t testing.TB, size int64) []FS {
	t.Helper()
	if !mayMount() {
		leaveOut(t, "ext4, XFS, btrfs and tmpfs: mounting needs root")
		return []FS{{"tempdir", t.TempDir()}}
	}
	var all []FS
	for _, kind := range []string{"ext4", "xfs", "btrfs", "tmpfs"} {
		if tool := missingTool(mountTools(kind)...); tool != "" {
			leaveOut(t, kind+": "+installHint(tool))
			continue
		}
		all = append(all, FS{kind, Mount(t, kind, size)})
	}
	return all
}

// Mount makes a file system of the kind ext4, xfs, btrfs or tmpfs, of size bytes, and
// mounts it until the end of the test. XFS needs at least 300 MiB and btrfs about
// 110 MiB. A test process that is killed leaves its mounts behind.
func Mount(t testing.TB, kind string, size int64) string {
	t.Helper()
	if !mayMount() {
		forgo(t, "mounting "+kind+" needs root")
	}
	RequireTools(t, mountTools(kind)...)
	// TempDir comes first, so that it is removed after the unmounting.
	base := t.TempDir()
	dir := filepath.Join(base, kind)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	// Before mounting, so that a mount that half failed is undone too.
	t.Cleanup(func() { unmount(t, dir) })
	if kind == "tmpfs" {
		RunCommand(t, "mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%d,mode=0755", size), "tmpfs", dir)
		return dir
	}
	mountImage(t, kind, size, filepath.Join(base, kind+".img"), dir)
	return dir
}

// mountImage makes a file system in an image and mounts it. The kernel will detach the
// loop device, even after a lazy unmount: mount asks for that (LO_FLAGS_AUTOCLEAR).
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
		// Blocks of 4 KiB even if it is small; inodes of 256 bytes keep nanoseconds.
		RunCommand(t, "mkfs.ext4", "-q", "-F", "-b", "4096", "-I", "256",
			"-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard", image)
		options += ",noinit_itable" // no kernel thread writes during a measurement
	case "xfs":
		RunCommand(t, "mkfs.xfs", "-q", "-f", "-K", "-m", "reflink=1,bigtime=1", image)
	case "btrfs":
		RunCommand(t, "mkfs.btrfs", "-q", "-f", "-K", image)
	default:
		t.Fatalf("mount %q: want ext4, xfs, btrfs or tmpfs", kind)
	}
	RunCommand(t, "mount", "-t", kind, "-o", options, image, dir)
	_ = os.Remove(filepath.Join(dir, "lost+found"))
}

// unmount unmounts dir, if it is a mount. It makes the calls itself: during the cleanup
// the test's context, which ends commands, is done.
func unmount(t testing.TB, dir string) {
	err := unix.Unmount(dir, unix.UMOUNT_NOFOLLOW)
	if err == nil || err == unix.EINVAL {
		return
	}
	t.Errorf("unmount %s: %v (a process still has it open); detaching it", dir, err)
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

// mayMount reports whether this process may mount. Root in a container may lack the
// capability.
func mayMount() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return false
	}
	return isRoot() && !checkOnly() && data[0].Effective&(1<<unix.CAP_SYS_ADMIN) != 0
}

func isRoot() bool { return os.Geteuid() == 0 }

// RunCommand runs a command and returns its output, standard error included. If the command
// fails, the test ends with that output.
func RunCommand(t testing.TB, name string, args ...string) string {
	t.Helper()
	path := findTool(name)
	if path == "" {
		t.Fatal(installHint(name))
	}
	out, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// RequireTools skips the test if a tool is not installed, and names the Debian package of the
// tool. With SHARD_TO_SSD_TESTS=all the test fails instead. With
// SHARD_TO_SSD_TESTS=check the test is always skipped, so that the same tests run on
// every machine.
func RequireTools(t testing.TB, tools ...string) {
	t.Helper()
	if checkOnly() {
		t.Skip("needs tools: " + strings.Join(tools, " "))
	}
	if tool := missingTool(tools...); tool != "" {
		forgo(t, installHint(tool))
	}
}

// RequireRoot skips the test if it does not run as root. With SHARD_TO_SSD_TESTS=all the
// test fails instead. With SHARD_TO_SSD_TESTS=check the test is always skipped.
func RequireRoot(t testing.TB) {
	t.Helper()
	if !isRoot() || checkOnly() {
		forgo(t, "needs root")
	}
}

func missingTool(tools ...string) string {
	for _, tool := range tools {
		if findTool(tool) == "" {
			return tool
		}
	}
	return ""
}

// findTool returns the path of a tool, or "". Besides PATH it searches the directories
// that a PATH inherited by su on Debian lacks.
func findTool(tool string) string {
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

func installHint(tool string) string {
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

// leaveOut logs that a part of the test is left out. forgo skips the whole test.
func leaveOut(t testing.TB, part string) {
	t.Helper()
	if wantAll() {
		t.Fatalf("left out %s, and SHARD_TO_SSD_TESTS=all forbids that", part)
	}
	t.Logf("left out %s", part)
}

func forgo(t testing.TB, why string) {
	t.Helper()
	if wantAll() {
		t.Fatalf("%s, and SHARD_TO_SSD_TESTS=all forbids skipping", why)
	}
	t.Skip(why)
}

func wantAll() bool   { return os.Getenv("SHARD_TO_SSD_TESTS") == "all" }
func checkOnly() bool { return os.Getenv("SHARD_TO_SSD_TESTS") == "check" }
