package statedir

import (
	"path/filepath"
	"strings"
	"testing"
)

// FuzzShardName takes any path: a name that comes of it is the last component, names
// one file in a directory, with room for the user file's, and is its own name.
func FuzzShardName(f *testing.F) {
	for _, path := range []string{"", "/", ".", "..", "a", "a/", "/a//b///", "a/..", "a/.", "a\nb", "a\r", "a\x00", "\xff", " ", RootName,
		"x/" + RootName, strings.Repeat("n", MaxName), strings.Repeat("n", MaxName+1)} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		name, err := ShardName(path)
		if err != nil {
			if name != "" {
				t.Errorf("%q: %q, %v", path, name, err)
			}
			return
		}
		if name == "" || name == "." || name == ".." || name == RootName || len(name)+len(".lock") > 255 || strings.ContainsAny(name, "/\x00\n\r") {
			t.Errorf("%q: accepted %q", path, name)
		}
		if again, err := ShardName(name); again != name || err != nil {
			t.Errorf("%q: %q, then %q, %v", path, name, again, err)
		}
		if base := path[:len(strings.TrimRight(path, "/"))]; filepath.Base(base) != name {
			t.Errorf("%q: got %q, wanted its last component", path, name)
		}
	})
}
