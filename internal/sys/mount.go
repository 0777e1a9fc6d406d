package sys

import (
	"golang.org/x/sys/unix"
)

// MountID is the mount that f is on, as /proc/self/mountinfo numbers them; ok is false
// before Linux 5.8, which does not say. Paths and device numbers do not tell mounts
// apart: one may hide another, and a subvolume has a number of its own.
func (f *File) MountID() (id uint64, ok bool, err error) {
	var x unix.Statx_t
	err = call("stat", f.where, func() error {
		return unix.Statx(f.fd, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &x)
	})
	return x.Mnt_id, err == nil && x.Mask&unix.STATX_MNT_ID != 0, err
}
