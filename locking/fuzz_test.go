package locking

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// FuzzParseUsers reads any bytes as a list. The users are the lines that are not blank,
// each once. Written by this tool, they are read again as the same users.
func FuzzParseUsers(f *testing.F) {
	for _, seed := range []string{"", "a", "a\nb", "\n\na\r\n\n", "a\na", "a\x00", "\xff\xfe\n\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, list []byte) {
		users, err := parseUsers(list)
		if err != nil {
			if !strings.Contains(string(list), "\x00") {
				t.Fatalf("list %q has no NUL: got error %v", list, err)
			}
			return
		}
		var want []string
		for line := range bytes.SplitSeq(bytes.TrimRight(list, "\x00\n"), []byte("\n")) {
			if len(line) > 0 && !slices.Contains(want, string(line)) {
				want = append(want, string(line))
			}
		}
		if !slices.Equal(users, want) || slices.ContainsFunc(users, func(id string) bool { return CheckID(id) != nil }) {
			t.Fatalf("list %q: got users %q, want %q", list, users, want)
		}
		again, err := parseUsers(joinUsers(users))
		if err != nil || !slices.Equal(again, users) {
			t.Fatalf("list %q: got users %q, and %q, %v after they were written", list, users, again, err)
		}
	})
}

// FuzzParseLog reads any bytes as a log. A log that is accepted equals one that is written
// with its lists, and any two lists are the same after they are written and read.
func FuzzParseLog(f *testing.F) {
	log := formatLog([]byte("a\nb"), []byte("a"))
	for _, seed := range [][]byte{nil, log, log[:len(log)-1], append(slices.Clip(log), 'x'), []byte(logMagic), formatLog(nil, nil)} {
		f.Add(seed, []byte("a\nb"))
	}
	f.Fuzz(func(t *testing.T, b, now []byte) {
		old, list, ok := parseLog(b)
		if ok && !bytes.Equal(formatLog(old, list), b) {
			t.Fatalf("accepted the log %q, which is not written for %q and %q", b, old, list)
		}
		if !ok { // so that isTorn gets lists
			old, list = b[:len(b)/2], b[len(b)/2:]
		}
		again, listAgain, ok := parseLog(formatLog(old, list))
		if !ok || !bytes.Equal(again, old) || !bytes.Equal(listAgain, list) {
			t.Fatalf("lists %q and %q: got %q and %q, %v after they were written", old, list, again, listAgain, ok)
		}
		if isTorn(now, old, list) && (bytes.Equal(now, old) || bytes.Equal(now, list) || len(now) < len(old)) {
			t.Fatalf("isTorn(%q, %q, %q) = true", now, old, list)
		}
	})
}

// FuzzTorn changes a list of some pages into another, and cuts the power. Any of the new
// pages may be on disk then. The next Acquire must find the old list or the new one. If one
// byte is from neither list, nothing is replayed.
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
			now = now[:grown] // the size reached the disk only in part
		}
		got := replayTorn(now, old, list)
		if !sameUsers(got, old) && !sameUsers(got, list) {
			t.Errorf("old %q, new %q, on disk %q: got %q", old, list, now, got)
		}
		if i := int(at); i < len(now) {
			for c := byte(1); c < 4; c++ { // at least one of the three is in neither list
				foreign := slices.Clone(now)
				if foreign[i] = c; (i < len(old) && old[i] == c) || (i < len(image) && image[i] == c) {
					continue
				}
				if isTorn(foreign, old, list) {
					t.Errorf("isTorn(%q, %q, %q) = true, but byte %d is in neither list", foreign, old, list, i)
				}
			}
		}
	})
}

// replayTorn returns the user file as recoverList leaves it.
func replayTorn(now, old, list []byte) []byte {
	if isTorn(now, old, list) {
		return list
	}
	return now
}

// listOf returns a list of up to six pages. It has no NULs, since no id has one.
func listOf(line []byte, times uint8) []byte {
	line = bytes.ReplaceAll(line, []byte{0}, nil)
	var list []byte
	for i := range int(times) + 1 { // the number makes the pages differ
		list = append(append(list, fmt.Sprint(i)...), line...)
	}
	return list[:min(len(list), 6*pageSize)]
}

func sameUsers(a, b []byte) bool {
	users, err := parseUsers(a)
	others, otherErr := parseUsers(b)
	return err == nil && otherErr == nil && slices.Equal(users, others)
}
