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

// inNamespace says that this process has its mounts for itself.
const inNamespace = "SHARD_TO_SSD_BENCH_NAMESPACE"

// ownNamespace starts the program once more in a mount namespace of its own, which
// ends with it: also after SIGKILL nothing stays mounted. Only a thread can unshare,
// and the threads that Go has by then would stay outside: hence the exec.
func ownNamespace(dir string) error {
	if os.Getenv(inNamespace) != "" {
		return os.Unsetenv(inNamespace)
	}
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare the mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("separate the mount namespace: %w", err)
	}
	if err := detachStrangers(dir); err != nil {
		return err
	}
	self, err := os.Executable()
	if err == nil {
		err = syscall.Exec(self, os.Args, append(os.Environ(), inNamespace+"=1"))
	}
	return fmt.Errorf("start again in a mount namespace: %w", err)
}

// detachStrangers lets go of temporary mounts that others have made, here only.
// Where their unmounting does not reach this namespace, it would keep their disks
// and their memory for hours.
func detachStrangers(dir string) error {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return err
	}
	for _, at := range slices.Backward(strangers(string(mounts), dir)) {
		if err := unix.Unmount(at, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && err != unix.EINVAL {
			return &os.PathError{Op: "detach", Path: at, Err: err}
		}
	}
	return nil
}

// strangers are the mount points below temporary directories, but for those that
// dir is in.
func strangers(mounts, dir string) (list []string) {
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
