package testkit

import (
	_ "embed"
	"os"
	"path/filepath"
	"testing"
)

//go:embed old_script.py
var oldScript string

// OldScript writes a program that behaves as the older script does (the Python script
// that this tool replaces), and returns its path. Its arguments are
//
//	-c|-r -l LOCKDIR -s SSDDIR -i ID [--check-inode] SHARD
//
// With --check-inode it checks, after it has the lock, whether the locked file is still
// the user file, and if not opens the user file again. The older script does not do that.
func OldScript(t testing.TB) string {
	t.Helper()
	RequireTools(t, "python3")
	path := filepath.Join(t.TempDir(), "old_shard_to_ssd")
	if err := os.WriteFile(path, []byte(oldScript), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}
