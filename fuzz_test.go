package shardtossd

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

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

// FuzzVerifiedRecord reads records of anything: a time and how it was read, as they
// are written, or nothing.
func FuzzVerifiedRecord(f *testing.F) {
	for _, record := range []string{"", "\n", "2026-01-02T03:04:05Z direct\n", "2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z \x1b[31m", "2026-01-02T03:04:05+24:00 cache\n",
		"direct 2026-01-02T03:04:05Z\n", "2026-01-02T03:04:05.5Z buffered\n"} {
		f.Add(record)
	}
	f.Fuzz(func(t *testing.T, record string) {
		when, mode, ok := parseVerified(record)
		if !ok {
			if !when.IsZero() || mode != "" {
				t.Errorf("%q: %v, %q", record, when, mode)
			}
			return
		}
		if mode != verify.FromDevice && mode != verify.Dropped && mode != verify.FromCache && mode != "" {
			t.Errorf("%q: mode %q", record, mode)
		}
		whole := when.Truncate(time.Second)
		if again, sameMode, ok := parseVerified(verifiedRecord(whole, mode)); !ok || !again.Equal(whole) || sameMode != mode {
			t.Errorf("%q: %v, %q, written again: %v, %q", record, when, mode, again, sameMode)
		}
	})
}
