package sys

import "golang.org/x/sys/unix"

// IsMediaError reports whether err is one that the kernel returns if a device cannot
// read a place: the bytes around that place may still be readable. A read with O_DIRECT
// returns the status of the block layer as an error number, see blk_errors in
// block/blk-core.c. A read through the page cache returns EIO for most of them.
//
// The other numbers of blk_errors do not concern a place: the request was not possible
// (EOPNOTSUPP, EINVAL), the kernel lacked something (ENOMEM, EBUSY, EAGAIN), the device
// is gone or reserved (ENODEV, EBADE), or they belong to writes.
//
// The error number does not tell which device failed. The caller knows that: it is the
// one from which it read.
func IsMediaError(err error) bool {
	return IsErrno(err,
		unix.EIO,       // BLK_STS_IOERR: any other failure
		unix.ENODATA,   // BLK_STS_MEDIUM: the device cannot read the sector, SCSI and NVMe
		unix.EILSEQ,    // BLK_STS_PROTECTION: the protection information does not match
		unix.ETIMEDOUT, // BLK_STS_TIMEOUT
		unix.EREMOTEIO, // BLK_STS_TARGET: the target refused the command
		unix.ENOLINK,   // BLK_STS_TRANSPORT: the way to the device failed
	)
}
