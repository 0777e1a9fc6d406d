package locking

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// FuzzParseUsers reads lists of any bytes: the users are the lines that are not blank,
// each once, and written by this tool they are read the same.
func FuzzParseUsers(f *testing.F) {
	for _, seed := range []string{"", "a", "a\nb", "\n\na\r\n\n", "a\na", "a\x00", "\xff\xfe\n\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, list []byte) {
		users, err := parseUsers(list)
		if err != nil {
			if !strings.Contains(string(list), "\x00") {
				t.Fatalf("list %q: %v", list, err)
			}
			return
		}
		var want []string
		for line := range bytes.SplitSeq(bytes.TrimRight(list, "\x00\n"), []byte("\n")) {
			if len(line) > 0 && !slices.Contains(want, string(line)) {
				want = append(want, string(line))
			}
		}
		if !slices.Equal(users, want) || slices.ContainsFunc(users, func(id string) bool { return ValidID(id) != nil }) {
			t.Fatalf("list %q: users %q, wanted %q", list, users, want)
		}
		again, err := parseUsers(joinUsers(users))
		if err != nil || !slices.Equal(again, users) {
			t.Fatalf("list %q: got %q, then %q, %v", list, users, again, err)
		}
	})
}

// FuzzParseLog reads logs of any bytes: what is accepted is what was written, and any
// two lists come back.
func FuzzParseLog(f *testing.F) {
	log := formatLog([]byte("a\nb"), []byte("a"))
	for _, seed := range [][]byte{nil, log, log[:len(log)-1], append(slices.Clip(log), 'x'), []byte(logMagic), formatLog(nil, nil)} {
		f.Add(seed, []byte("a\nb"))
	}
	f.Fuzz(func(t *testing.T, b, now []byte) {
		old, list, ok := parseLog(b)
		if ok && !bytes.Equal(formatLog(old, list), b) {
			t.Fatalf("log %q is not that of %q and %q", b, old, list)
		}
		if !ok { // so that torn sees something
			old, list = b[:len(b)/2], b[len(b)/2:]
		}
		again, listAgain, ok := parseLog(formatLog(old, list))
		if !ok || !bytes.Equal(again, old) || !bytes.Equal(listAgain, list) {
			t.Fatalf("lists %q and %q do not come back", old, list)
		}
		if isTorn(now, old, list) && (bytes.Equal(now, old) || bytes.Equal(now, list) || len(now) < len(old)) {
			t.Fatalf("%q is torn between %q and %q", now, old, list)
		}
	})
}

// FuzzTorn has lists of some pages changed into each other and the power cut: whatever
// pages are on disk then, what the next lock makes of them is the old list or the new
// one. Where a single byte is of neither, nothing is replayed.
func FuzzTorn(f *testing.F) {
	f.Add([]byte("instance-1\n"), []byte("instance-2\n"), uint8(3), uint8(3), uint8(5), uint8(0), uint16(0))
	f.Add([]byte("a\nlonger"), []byte("b"), uint8(200), uint8(1), uint8(1), uint8(2), uint16(4095))
	f.Add([]byte("x"), []byte(strings.Repeat("y", 100)+"\n"), uint8(30), uint8(255), uint8(2), uint8(1), uint16(9000))
	f.Add([]byte("x"), []byte(strings.Repeat("y", 100)+"\n"), uint8(30), uint8(255), uint8(2), uint8(0), uint16(9000))
	f.Fuzz(func(t *testing.T, a, b []byte, timesA, timesB, mask, cut uint8, at uint16) {
		old, list := listOf(a, timesA), listOf(b, timesB)
		image := padList(list, len(old))
		now := mixPages(old, image, int(mask)&(1<<((len(image)+pageSize-1)/pageSize)-1))
		if grown := (len(old)/pageSize + 1 + int(cut)) * pageSize; cut > 0 && grown < len(now) {
			now = now[:grown] // the size was on its way
		}
		got := replayTorn(now, old, list)
		if !sameUsers(got, old) && !sameUsers(got, list) {
			t.Errorf("old %q, new %q, on disk %q: replayed as %q", old, list, now, got)
		}
		if i := int(at); i < len(now) {
			for c := byte(1); c < 4; c++ { // three bytes: one of them is neither's
				foreign := slices.Clone(now)
				if foreign[i] = c; (i < len(old) && old[i] == c) || (i < len(image) && image[i] == c) {
					continue
				}
				if isTorn(foreign, old, list) {
					t.Errorf("old %q, new %q: %q is taken for torn", old, list, foreign)
				}
			}
		}
	})
}

// replayed is what recover makes of a user file.
func replayTorn(now, old, list []byte) []byte {
	if isTorn(now, old, list) {
		return list
	}
	return now
}

// listOf is a list of up to six pages, without NULs, which no id has.
func listOf(line []byte, times uint8) []byte {
	line = bytes.ReplaceAll(line, []byte{0}, nil)
	var list []byte
	for i := range int(times) + 1 { // not the same page again and again
		list = append(append(list, fmt.Sprint(i)...), line...)
	}
	return list[:min(len(list), 6*pageSize)]
}

func sameUsers(a, b []byte) bool {
	users, err := parseUsers(a)
	others, otherErr := parseUsers(b)
	return err == nil && otherErr == nil && slices.Equal(users, others)
}

// FuzzHolder looks through anything that may stand in /proc/locks: a holder is named by
// a line of his, and found if there is one.
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
			t.Errorf("%q: held by %d", locks, pid)
		}
		if pid > 0 && !slices.ContainsFunc(strings.Split(locks, "\n"), func(line string) bool {
			w := strings.Fields(line)
			return len(w) >= 6 && w[1] == "FLOCK" && strings.TrimLeft(w[4], "+0") == fmt.Sprint(pid) &&
				strings.TrimLeft(w[5][strings.LastIndexByte(w[5], ':')+1:], "0") == strings.TrimLeft(fmt.Sprint(ino), "0")
		}) {
			t.Errorf("%q: held by %d, who has no line for inode %d", locks, pid, ino)
		}
		held := fmt.Sprintf("1: FLOCK  ADVISORY  WRITE 4711 %02x:%02x:%d 0 EOF\n", major, minor, ino)
		if pid := findHolder(held+locks, dev, ino); pid != 4711 {
			t.Errorf("%q: held by %d, wanted 4711", held+locks, pid)
		}
	})
}
