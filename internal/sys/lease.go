package sys

import (
	"strconv"

	"golang.org/x/sys/unix"
)

// openLeased opens a file again that could not be opened with O_NONBLOCK: it failed with
// refused, EAGAIN. A regular file has a lease then (Samba, an NFS delegation, F_SETLEASE).
// Without O_NONBLOCK the kernel waits until the holder gives the lease up, and takes it
// away after /proc/sys/fs/lease-break-time seconds. For other files it returns refused.
//
// The name may lead to a FIFO by now, where an open without O_NONBLOCK waits for the other
// end, perhaps forever. So the name is resolved once more with O_PATH, which neither waits
// nor breaks a lease. If it is a regular file, that very file is opened through /proc. On
// a host without /proc the open fails, as there is no other safe way.
//
// A thread that waits in open cannot be stopped, as with a server that does not answer. It
// returns after the break time at the latest, or when the process is killed.
func openLeased(dirfd int, where place, name string, flags int, refused error) (fd int, err error) {
	f := &File{where: where}
	err = call("open", where, func() (err error) {
		f.fd, err = unix.Openat(dirfd, name, unix.O_PATH|flags&(unix.O_CLOEXEC|unix.O_NOFOLLOW), 0)
		return err
	})
	if err != nil {
		return -1, err
	}
	defer f.Close()
	s, err := f.Stat()
	if err != nil {
		return -1, err
	}
	if !s.IsRegular() {
		return -1, refused
	}
	// The file exists, and its link in /proc must be followed.
	flags &^= unix.O_NONBLOCK | unix.O_NOFOLLOW | unix.O_CREAT | unix.O_EXCL
	err = call("open", where, func() (err error) {
		fd, err = unix.Open("/proc/self/fd/"+strconv.Itoa(f.fd), flags, 0)
		return err
	})
	if IsErrno(err, unix.ENOENT, unix.ENOTDIR) { // no /proc
		return -1, refused
	}
	return fd, err
}
