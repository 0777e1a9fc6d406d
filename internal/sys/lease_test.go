package sys

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/sys/leasetest"
)

// An open waits until the holder of a lease gives it up, with any flags. It neither
// truncates nor creates another file.
func TestOpenWaitsForALease(t *testing.T) {
	d := mustOpenDir(t, t.TempDir())
	path := filepath.Join(d.Path(), "f")
	for name, open := range map[string]func() (*File, error){
		"read":            func() (*File, error) { return d.OpenAt("f", unix.O_RDONLY, 0) },
		"direct, noatime": func() (*File, error) { return d.OpenAt("f", unix.O_RDONLY|unix.O_DIRECT|unix.O_NOATIME, 0) },
		"write":           func() (*File, error) { return d.OpenAt("f", unix.O_RDWR, 0) },
		"create":          func() (*File, error) { return d.OpenAt("f", unix.O_RDWR|unix.O_CREAT, 0o600) },
		"path":            func() (*File, error) { return Open(path, unix.O_RDONLY) },
		"symbolic link":   func() (*File, error) { return Open(filepath.Join(d.Path(), "link"), unix.O_RDONLY) },
	} {
		if err := errors.Join(os.WriteFile(path, []byte("abc"), 0o600), d.UnlinkIfExists("link"), d.SymlinkAt("f", "link")); err != nil {
			t.Fatal(err)
		}
		lease := leasetest.HoldUntilWanted(t, path, nil)
		f, err := open()
		if err != nil || !lease.WasWanted() {
			t.Errorf("%s: got error %v, lease asked for: %t", name, err, lease.WasWanted())
		}
		lease.Close()
		if err != nil {
			continue
		}
		buf := make([]byte, Align)
		if f.Direct.Load() {
			if buf, err = AllocBuffer(Align); err != nil {
				t.Fatal(err)
			}
		}
		if n, err := f.ReadAt(buf, 3, 0); n != 3 || err != nil || string(buf[:3]) != "abc" {
			t.Errorf("%s: got %q, %v, want abc", name, buf[:n], err)
		}
		f.Close()
	}
}

// While a file is opened again because of a lease, its name is swapped with that of a
// FIFO, again and again. It opens the file or is refused: it never waits for a process
// that opens the other end of the FIFO.
func TestLeasedFileBecomesAFIFO(t *testing.T) {
	d := mustOpenDir(t, t.TempDir())
	path := filepath.Join(d.Path(), "f")
	if err := errors.Join(os.WriteFile(path, nil, 0o600), unix.Mkfifo(path+".fifo", 0o600)); err != nil {
		t.Fatal(err)
	}
	stop, opened := make(chan struct{}), make(chan error, 1)
	go func() {
		defer close(stop)
		opened <- openLeasedOften(d, "f")
	}()
	late := time.After(20 * time.Second)
	for {
		select {
		case <-stop:
			if err := <-opened; err != nil {
				t.Error(err)
			}
			return
		case <-late:
			t.Fatal("the open waits for the other end of a FIFO")
		default:
			if err := d.RenameAt("f", d, "f.fifo", Exchange); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func openLeasedOften(d *File, name string) error {
	regular := 0
	for i := 0; i < 20_000 || regular == 0; i++ {
		fd, err := openLeased(d.fd, place{d.Path(), name}, name, openFlags, unix.EAGAIN)
		if errors.Is(err, unix.EAGAIN) {
			continue
		}
		if err != nil {
			return err
		}
		var s unix.Stat_t
		if err := errors.Join(unix.Fstat(fd, &s), unix.Close(fd)); err != nil {
			return err
		}
		if s.Mode&unix.S_IFMT != unix.S_IFREG {
			return errors.New("it opened a FIFO")
		}
		regular++
	}
	return nil
}
