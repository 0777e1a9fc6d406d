package bench

import (
	"errors"
	"io/fs"
	"path/filepath"
	"testing"
	"time"

	"shard_to_ssd/internal/testkit"
)

func TestRandomReader(t *testing.T) {
	dir := t.TempDir()
	testkit.Apply(t, dir, testkit.File("reads", 64*readSize, 1))
	open := func() *RandomReader {
		r, err := OpenRandomReader(filepath.Join(dir, "reads"), 1)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		})
		return r
	}
	other, failed := open(), errors.New("the work failed")
	beside, err := open().readBeside(t.Context(), func() error {
		alone, err := other.readFor(t.Context(), 20*time.Millisecond)
		if err != nil || alone.Count == 0 || alone.P50 <= 0 || alone.P99 < alone.P50 {
			t.Errorf("readFor: got %+v, %v, want some reads", alone, err)
		}
		return failed
	})
	if !errors.Is(err, failed) || beside.Count == 0 {
		t.Errorf("readBeside: got %+v, %v, want some reads and %v", beside, err, failed)
	}
	if _, err := OpenRandomReader(filepath.Join(dir, "absent"), 1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an absent file: got %v, want %v", err, fs.ErrNotExist)
	}
}
