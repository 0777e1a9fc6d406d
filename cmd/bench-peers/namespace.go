package main

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// namespaceVariable is set in the environment of a process that has its own mount
// namespace.
const namespaceVariable = "SHARD_TO_SSD_BENCH_NAMESPACE"

// enterNamespace starts the program again in a mount namespace of its own. The namespace
// ends with the process, so that no mount is left even after SIGKILL. The program must
// start again because unshare affects only one thread, and Go has started others.
func enterNamespace(dir string) error {
	if os.Getenv(namespaceVariable) != "" {
		return os.Unsetenv(namespaceVariable)
	}
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare the mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("separate the mount namespace: %w", err)
	}
	if err := detachTemporary(dir); err != nil {
		return err
	}
	self, err := os.Executable()
	if err == nil {
		err = syscall.Exec(self, os.Args, append(os.Environ(), namespaceVariable+"=1"))
	}
	return fmt.Errorf("start again in a mount namespace: %w", err)
}

// detachTemporary detaches temporary mounts of other processes, in this namespace only.
// If an unmount of theirs did not propagate to this namespace, it would keep their disks
// and memory for hours.
func detachTemporary(dir string) error {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return err
	}
	for _, at := range slices.Backward(temporaryMounts(string(mounts), dir)) {
		if err := unix.Unmount(at, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && err != unix.EINVAL {
			return &os.PathError{Op: "detach", Path: at, Err: err}
		}
	}
	return nil
}

// temporaryMounts returns the mount points below temporary directories, except those
// that contain dir.
func temporaryMounts(mounts, dir string) (list []string) {
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	for line := range strings.Lines(mounts) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		at := unescape.Replace(fields[1])
		for _, temporary := range []string{os.TempDir(), "/tmp", "/var/tmp", "/dev/shm"} {
			if strings.HasPrefix(at, temporary+"/") && !strings.HasPrefix(dir+"/", at+"/") {
				list = append(list, at)
				break
			}
		}
	}
	return list
}
