package locking

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"

	"github.com/cespare/xxhash/v2"
	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/errs"
	"shard_to_ssd/internal/sys"
)

// The log, <user file>.log, exists while a list longer than a page is changed. A power
// cut, or SIGKILL in the middle of a write, can leave such a list with some old and some
// new pages.
//
//	offset  bytes
//	0       8      magic "s2sulog1"
//	8       8      length of the old list, little-endian, like all numbers here
//	16      8      length of the new list
//	24      ...    the old list as it was on disk
//	...     ...    the new list
//	...     8      XXH64 of all bytes before
//
// The log is used only if the list is visibly torn. In every other case the change was
// finished, or was not begun, or another program has written the list since.
const (
	logMagic  = "s2sulog1"
	logHeader = len(logMagic) + 8 + 8
	logSum    = 8
	maxLog    = logHeader + 2*maxList + logSum

	// pageSize is the number of bytes that are assumed to reach the disk together: the
	// kernel writes by pages, and so do disks with 4 KiB sectors.
	pageSize = 4096
)

// formatLog is the inverse of parseLog.
func formatLog(old, list []byte) []byte {
	b := make([]byte, 0, logHeader+len(old)+len(list)+logSum)
	b = append(b, logMagic...)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(old)))
	b = binary.LittleEndian.AppendUint64(b, uint64(len(list)))
	b = append(b, old...)
	b = append(b, list...)
	return binary.LittleEndian.AppendUint64(b, xxhash.Sum64(b))
}

// parseLog returns the two lists of a log. ok is false unless b is a complete log.
func parseLog(b []byte) (old, list []byte, ok bool) {
	if len(b) < logHeader+logSum || string(b[:len(logMagic)]) != logMagic {
		return nil, nil, false
	}
	body, sum := b[:len(b)-logSum], b[len(b)-logSum:]
	if xxhash.Sum64(body) != binary.LittleEndian.Uint64(sum) {
		return nil, nil, false
	}
	oldLen := binary.LittleEndian.Uint64(body[len(logMagic):])
	listLen := binary.LittleEndian.Uint64(body[len(logMagic)+8:])
	lists := body[logHeader:]
	if oldLen > maxList || listLen > maxList || oldLen+listLen != uint64(len(lists)) {
		return nil, nil, false
	}
	return lists[:oldLen:oldLen], lists[oldLen:], true
}

// isTorn reports whether now is the state that a crash left while list was written over
// old: every page is from one of the two, but the whole is neither of them.
func isTorn(now, old, list []byte) bool {
	image := padList(list, len(old))
	if bytes.Equal(now, old) || bytes.Equal(now, list) || bytes.Equal(now, image) {
		return false
	}
	if !isTornLength(len(now), len(old), len(image)) {
		return false
	}
	for at := 0; at < len(now); at += pageSize {
		page := now[at:min(at+pageSize, len(now))]
		if !bytes.HasPrefix(image[at:], page) && !isOldPage(page, old, at) {
			return false
		}
	}
	return true
}

// isTornLength reports whether a write that takes a file from old to image bytes can stop
// at now. The kernel moves the size page by page. Any other length comes from another
// program, which may have added an id that is a prefix of ours.
func isTornLength(now, old, image int) bool {
	return now == old || now == image || (now > old && now < image && now%pageSize == 0)
}

// isOldPage reports whether page is the page of old at offset at. Beyond the end of old
// there are zeros, if the new size reached the disk before the data.
func isOldPage(page, old []byte, at int) bool {
	old = old[min(at, len(old)):]
	n := min(len(page), len(old))
	return bytes.Equal(page[:n], old[:n]) && len(bytes.TrimLeft(page[n:], "\x00")) == 0
}

// replaceLogged is replaceList with a log around it. The log stays if it is not certain
// that one of the two lists is on disk.
func (u *UserFile) replaceLogged(list []byte) (done bool, err error) {
	if err := u.writeLog(list); err != nil {
		return false, errs.Join(err, u.dropLog())
	}
	done, err = u.replaceList(list)
	if u.changeErr != nil {
		return done, err
	}
	return done, errs.Join(err, u.dropLog())
}

// writeLog makes the log durable, with its name.
func (u *UserFile) writeLog(list []byte) error {
	if err := u.unlinkLog(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := u.dir.OpenAt(u.logName(), unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, fileMode)
	if err != nil {
		return err
	}
	if err := errs.Join(writeAndSync(f, formatLog(u.raw, list)), f.Close()); err != nil {
		return err
	}
	return u.dir.Sync()
}

func writeAndSync(f *sys.File, b []byte) error {
	if err := f.WriteAt(b, 0); err != nil {
		return err
	}
	return f.Sync()
}

// recoverList finishes a change that a crash interrupted, and drops the log.
func (u *UserFile) recoverList() error {
	b, err := u.readLog()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	now, err := readWhole(u.file, maxList)
	if err != nil {
		return err
	}
	if old, list, ok := parseLog(b); ok && isTorn(now, old, list) {
		if err := overwriteList(u.file, list, 0, max(len(old), len(now))); err != nil {
			return fmt.Errorf("finish the interrupted change: %w", err)
		}
	}
	return u.dropLog()
}

// readLog returns the bytes of the log, none if this tool cannot have written it: more
// users may have the right to write to the lock dir than to the user file.
func (u *UserFile) readLog() ([]byte, error) {
	f, err := u.dir.OpenAt(u.logName(), unix.O_RDONLY, 0)
	switch {
	case sys.IsErrno(err, unix.ENAMETOOLONG): // so it cannot exist
		return nil, fs.ErrNotExist
	case sys.IsErrno(err, unix.ELOOP, unix.ENXIO): // a symbolic link, a socket
		return nil, nil
	case err != nil:
		return nil, err
	}
	defer f.Close()
	mine, err := u.file.Stat()
	if err != nil {
		return nil, err
	}
	s, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if checkType(&s) != nil || (s.UID != 0 && s.UID != mine.UID) || s.Size > int64(maxLog) {
		return nil, nil
	}
	return readWhole(f, maxLog)
}

// dropLog deletes the log durably. A log that is missing is not an error.
func (u *UserFile) dropLog() error {
	err := u.unlinkLog()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return u.dir.Sync()
}

func (u *UserFile) unlinkLog() error {
	err := u.dir.UnlinkAt(u.logName())
	if sys.IsErrno(err, unix.ENAMETOOLONG) {
		return fs.ErrNotExist
	}
	return err
}

// logName is <user file>.log. If that is longer than a name may be, a checksum replaces
// the end of the user file's name. Every user file needs a log name: without a log, no
// long list could be changed, and no user of such a shard could be unregistered.
func (u *UserFile) logName() string {
	name := u.name + ".log"
	if len(name) <= unix.NAME_MAX {
		return name
	}
	return fmt.Sprintf("%s.%016x.lock.log", u.name[:200], xxhash.Sum64String(u.name))
}
