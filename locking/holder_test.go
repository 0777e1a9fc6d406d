package locking

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestFindHolder(t *testing.T) {
	const (
		posix   = "1: POSIX  ADVISORY  WRITE 10 08:1a:77 0 EOF\n"
		ours    = "2: FLOCK  ADVISORY  WRITE 20 08:1a:77 0 EOF\n"
		waiting = "2: -> FLOCK  ADVISORY  WRITE 30 08:1a:77 0 EOF\n"
		btrfs   = "3: FLOCK  ADVISORY  WRITE 40 00:2b:77 0 EOF\n"
		other   = "4: FLOCK  ADVISORY  WRITE 50 08:1a:78 0 EOF\n"
		foreign = "5: FLOCK  ADVISORY  WRITE 0 08:1a:77 0 EOF\n"
		broken  = "\n6: FLOCK\n7: FLOCK  ADVISORY  WRITE x 08:1a:77 0 EOF\n8: FLOCK  ADVISORY  WRITE 60 <none>:0 0 EOF\n"
	)
	for _, c := range []struct {
		name, locks string
		want        int
	}{
		{"nothing", "", 0},
		{"device and inode", posix + other + waiting + ours, 20},
		{"device and inode among equal inodes", btrfs + ours, 20},
		{"a lock of another kind", posix, 0},
		{"only waiting", waiting, 0},
		{"inode alone", other + btrfs + posix, 40},
		{"inode alone, twice", btrfs + btrfs, 0},
		{"outside the PID namespace", foreign, 0},
		{"outside the PID namespace, and an equal inode", foreign + btrfs, 0},
		{"no process", strings.Replace(ours, " 20 ", " -20 ", 1), 0},
		{"broken lines", broken + ours, 20},
	} {
		wantEqual(t, c.name, findHolder(c.locks, unix.Mkdev(8, 0x1a), 77), c.want)
	}
}
