package testkit

import (
	_ "embed"
	"os"
	"path/filepath"
	"testing"
)

//go:embed old_script.py
var oldScript string

// OldScript writes a program that behaves as the older script does, and returns
// its path. Its arguments are
//
//	-c|-r -l LOCKDIR -s SSDDIR -i ID [--check-inode] SHARD
//
// With --check-inode it looks, after it got the lock, whether that is still the
// user file, and opens it anew if not. The older script does not.
func OldScript(t testing.TB) string {
	t.Helper()
	Need(t, "python3")
	path := filepath.Join(t.TempDir(), "old_shard_to_ssd")
	if err := os.WriteFile(path, []byte(oldScript), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}
