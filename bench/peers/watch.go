package peers

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/errs"
	"shard_to_ssd/internal/sys"
)

// watchCache reads every fourth file of the source into the page cache, as a service
// would. After the command it counts the bytes of these files that are still cached. It
// also counts the cached bytes of all other files of the source and of the SSD.
func watchCache(_ context.Context, p place) (func(*sample) error, error) {
	var used, unused []string
	err := walkFiles(p.source, func(path string) error {
		if (len(used)+len(unused))%4 != 0 {
			unused = append(unused, path)
			return nil
		}
		used = append(used, path)
		return readWhole(path)
	})
	if err != nil {
		return nil, err
	}
	before, err := cachedBytes(used)
	if err != nil {
		return nil, err
	}
	return func(s *sample) error {
		after, err := cachedBytes(used)
		if err != nil {
			return err
		}
		if err := walkFiles(p.ssdDir(), func(path string) error { unused = append(unused, path); return nil }); err != nil {
			return err
		}
		left, err := cachedBytes(unused)
		s.setValue("cache kept", float64(after)/float64(max(before, 1)))
		s.setValue("cache left", float64(left))
		return err
	}, nil
}

// walkFiles calls do with the path of every regular file.
func walkFiles(dir string, do func(path string) error) error {
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		return do(path)
	})
}

func readWhole(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(io.Discard, f)
	return err
}

// cachedBytes returns how many bytes of these files are in the page cache.
func cachedBytes(paths []string) (bytes int64, err error) {
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return 0, err
		}
		f, err := sys.Open(path, unix.O_RDONLY)
		if err != nil {
			return 0, err
		}
		n, err := f.CachedBytes(0, info.Size())
		f.Close()
		if err != nil {
			return 0, err
		}
		bytes += min(n, info.Size()) // the kernel counts whole pages
	}
	return bytes, nil
}

// watchRemoval measures when the name of the copy disappears.
func watchRemoval(_ context.Context, p place) (func(*sample) error, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("inotify_init1", err)
	}
	events := os.NewFile(uintptr(fd), "inotify")
	if _, err := unix.InotifyAddWatch(fd, p.ssdDir(), unix.IN_MOVED_FROM|unix.IN_DELETE); err != nil {
		events.Close()
		return nil, os.NewSyscallError("inotify_add_watch", err)
	}
	start, gone := time.Now(), make(chan time.Duration, 1)
	go func() {
		defer close(gone)
		buf := make([]byte, 4096)
		for {
			n, err := events.Read(buf)
			if err != nil {
				return
			}
			if bytes.Contains(buf[:n], []byte("shard\x00")) { // the name in the event
				gone <- time.Since(start)
				return
			}
		}
	}()
	return func(s *sample) error {
		// The event came before the command ended: if there is one, it can be read now.
		if err := events.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			return errs.Join(err, events.Close())
		}
		after, ok := <-gone
		events.Close()
		if !ok {
			return fmt.Errorf("watch %s: no event for the removal of its name", p.copyPath())
		}
		s.setValue("gone", after.Seconds())
		return nil
	}, nil
}
