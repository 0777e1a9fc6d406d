package shardtossd

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"shard_to_ssd/verify"
)

// FuzzShardName takes any path: a name that comes of it is the last component, names
// one file in a directory, with room for the user file's, and is its own name.
func FuzzShardName(f *testing.F) {
	for _, path := range []string{"", "/", ".", "..", "a", "a/", "/a//b///", "a/..", "a/.", "a\nb", "a\r", "a\x00", "\xff", " ", stateRootName,
		"x/" + stateRootName, strings.Repeat("n", maxName), strings.Repeat("n", maxName+1)} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		name, err := shardName(path)
		if err != nil {
			if !errors.Is(err, ErrUsage) || name != "" {
				t.Errorf("%q: %q, %v", path, name, err)
			}
			return
		}
		if name == "" || name == "." || name == ".." || name == stateRootName || len(name)+len(".lock") > 255 || strings.ContainsAny(name, "/\x00\n\r") {
			t.Errorf("%q: accepted %q", path, name)
		}
		if again, err := shardName(name); again != name || err != nil {
			t.Errorf("%q: %q, then %q, %v", path, name, again, err)
		}
		if base := path[:len(strings.TrimRight(path, "/"))]; filepath.Base(base) != name {
			t.Errorf("%q: got %q, wanted its last component", path, name)
		}
	})
}

// FuzzVerifiedRecord reads records of anything: what was found, as it is written, or
// nothing.
func FuzzVerifiedRecord(f *testing.F) {
	const whole = "2026-01-02T03:04:05.5Z direct 3 77 1700000000.000000001 2026-01-01T00:00:00Z\n"
	for _, record := range []string{whole, "", "\n", whole[:20], whole + "\n", " " + whole, strings.Replace(whole, "direct", "-", 1), strings.Replace(whole, "direct", "\x1b[31m", 1),
		strings.Replace(whole, ".5Z", "+24:00", 1), strings.Replace(whole, " 3 ", " -3 ", 1), strings.Replace(whole, " 3 ", " 03 ", 1)} {
		f.Add(record)
	}
	f.Fuzz(func(t *testing.T, record string) {
		found, ok := parseFinding(record)
		if !ok {
			if found != nil {
				t.Errorf("%q: %+v", record, found)
			}
			return
		}
		if m := found.mode; m != verify.FromDevice && m != verify.Dropped && m != verify.FromCache && m != "" {
			t.Errorf("%q: mode %q", record, m)
		}
		if text := found.String(); text != record {
			t.Errorf("%q: written again: %q", record, text)
		}
	})
}
