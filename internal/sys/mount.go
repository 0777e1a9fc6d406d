package sys

import (
	"golang.org/x/sys/unix"
)

// MountID returns the id of the mount that f is on, as in /proc/self/mountinfo. ok is
// false before Linux 5.8, which does not report it. Paths and device numbers cannot
// identify a mount: one mount may hide another, and a subvolume has its own number.
func (f *File) MountID() (id uint64, ok bool, err error) {
	var x unix.Statx_t
	err = call("stat", f.where, func() error {
		return unix.Statx(f.fd, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &x)
	})
	return x.Mnt_id, err == nil && x.Mask&unix.STATX_MNT_ID != 0, err
}
