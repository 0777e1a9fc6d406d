package sys

import (
	"fmt"
	"slices"
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
		if got := findHolder(c.locks, unix.Mkdev(8, 0x1a), 77); got != c.want {
			t.Errorf("%s: got %d, want %d", c.name, got, c.want)
		}
	}
}

// FuzzHolder searches any text as /proc/locks. A holder that is returned has a line, and a
// holder that has a line is found.
func FuzzHolder(f *testing.F) {
	for _, locks := range []string{
		"", "1: FLOCK  ADVISORY  WRITE 20 08:1a:77 0 EOF\n", "2: -> FLOCK  ADVISORY  WRITE 30 08:1a:77 0 EOF\n",
		"1: POSIX  ADVISORY  WRITE 10 08:1a:77 0 EOF\n", "1: FLOCK  ADVISORY  WRITE -1 08:1a:77 0 EOF\n", "1: FLOCK  ADVISORY  WRITE +5 08:1a:77 0 EOF\n",
		"1: FLOCK  ADVISORY  WRITE 1 ffffffff:ffffffff:18446744073709551615 0 EOF\n1: FLOCK x y 2 00:00:77", "1: OFDLCK ADVISORY  READ -1 00:06:77 0 EOF\n",
	} {
		f.Add(locks, uint8(8), uint8(0x1a), uint64(77))
	}
	f.Fuzz(func(t *testing.T, locks string, major, minor uint8, ino uint64) {
		dev := unix.Mkdev(uint32(major), uint32(minor))
		pid := findHolder(locks, dev, ino)
		if pid < 0 {
			t.Errorf("%q: got holder %d", locks, pid)
		}
		if pid > 0 && !slices.ContainsFunc(strings.Split(locks, "\n"), func(line string) bool {
			w := strings.Fields(line)
			return len(w) >= 6 && w[1] == "FLOCK" && strings.TrimLeft(w[4], "+0") == fmt.Sprint(pid) &&
				strings.TrimLeft(w[5][strings.LastIndexByte(w[5], ':')+1:], "0") == strings.TrimLeft(fmt.Sprint(ino), "0")
		}) {
			t.Errorf("%q: got holder %d, which has no line for inode %d", locks, pid, ino)
		}
		held := fmt.Sprintf("1: FLOCK  ADVISORY  WRITE 4711 %02x:%02x:%d 0 EOF\n", major, minor, ino)
		if pid := findHolder(held+locks, dev, ino); pid != 4711 {
			t.Errorf("%q: got holder %d, want 4711", held+locks, pid)
		}
	})
}
