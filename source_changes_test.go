package shardtossd_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"shard_to_ssd/copier"
	"shard_to_ssd/internal/testkit"
)

// waitForClockTick waits until the file system of dir gives new files a later time. The next
// change has a time of its own then. Kernels before 6.13 count file times in ticks of some
// milliseconds.
func waitForClockTick(t testing.TB, dir string) {
	t.Helper()
	probe := filepath.Join(dir, "tick")
	when := func() time.Time {
		if err := os.WriteFile(probe, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		st, err := os.Stat(probe)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(probe); err != nil {
			t.Fatal(err)
		}
		return st.ModTime()
	}
	for first := when(); !when().After(first); {
	}
}

// mixedTree has one entry of each kind that the tests change.
func mixedTree() []testkit.Step {
	return []testkit.Step{
		testkit.TextFile("small", "small"),
		testkit.File("large", 9*mebi+5, 1),
		testkit.TextFile("dir/inner", "inner"),
		testkit.TextFile("dir/sub/leaf", "leaf"),
		testkit.Dir("empty", 0o755),
		testkit.Symlink("small", "link"),
		testkit.TextFile("one", "linked"),
		testkit.Hardlink("one", "two"),
	}
}

// unchangedTime is the mtime of the large file before a sourceEdit.
var unchangedTime = time.Unix(1e9, 1)

// A sourceEdit changes mixedTree in one way.
type sourceEdit struct {
	name  string
	steps []testkit.Step
}

// sourceEdits lists each way in which an entry of mixedTree can change.
func sourceEdits(t *testing.T) []sourceEdit {
	t.Helper()
	epoch := unchangedTime
	replace := func(name string, with testkit.Step) []testkit.Step {
		return []testkit.Step{testkit.Remove(name), with}
	}
	edits := []sourceEdit{
		{"small truncated", []testkit.Step{testkit.Truncate("small", 1)}},
		{"small emptied", []testkit.Step{testkit.Truncate("small", 0)}},
		{"small grown", []testkit.Step{testkit.Truncate("small", 6)}},
		{"small rewritten", []testkit.Step{testkit.Write("small", 0, "S")}},
		{"small replaced", []testkit.Step{testkit.TextFile("new", "small"), testkit.Rename("new", "small")}},
		{"small removed", []testkit.Step{testkit.Remove("small")}},
		{"large truncated", []testkit.Step{testkit.Truncate("large", 9*mebi)}},
		{"large cut to a block", []testkit.Step{testkit.Truncate("large", 4*mebi)}},
		{"large emptied", []testkit.Step{testkit.Truncate("large", 0)}},
		{"large grown", []testkit.Step{testkit.Truncate("large", 9*mebi+6)}},
		{"large rewritten", []testkit.Step{testkit.Write("large", 5*mebi, "L")}},
		{"large rewritten, mtime set back", []testkit.Step{testkit.Write("large", 5*mebi, "L"), testkit.Times("large", epoch, epoch)}},
		{"large replaced", []testkit.Step{testkit.File("new", 9*mebi+5, 1), testkit.Times("new", epoch, epoch), testkit.Rename("new", "large")}},
		{"large removed", []testkit.Step{testkit.Remove("large")}},
		{"mtime of file", []testkit.Step{testkit.Times("small", epoch, epoch.Add(1))}},
		{"mtime of directory", []testkit.Step{testkit.Times("empty", epoch, epoch.Add(1))}},
		{"mtime of link", []testkit.Step{testkit.Times("link", epoch, epoch.Add(1))}},
		{"mode of file", []testkit.Step{testkit.Chmod("dir/inner", 0o600)}},
		{"mode of directory", []testkit.Step{testkit.Chmod("dir", 0o700)}},
		{"mode of root", []testkit.Step{testkit.Chmod(".", 0o700)}},
		{"entry added", []testkit.Step{testkit.TextFile("dir/sub/new", "")}},
		{"entry added to the root", []testkit.Step{testkit.TextFile("new", "")}},
		{"entry added to an empty directory", []testkit.Step{testkit.Dir("empty/new", 0o755)}},
		{"entry removed", []testkit.Step{testkit.Remove("dir/sub/leaf")}},
		{"hard link added", []testkit.Step{testkit.Hardlink("small", "dir/name")}},
		{"hard link removed", []testkit.Step{testkit.Remove("two")}},
		{"link with another target", replace("link", testkit.Symlink("large", "link"))},
		{"file is a directory", replace("small", testkit.Dir("small", 0o755))},
		{"file is a link", replace("small", testkit.Symlink("large", "small"))},
		{"file is a FIFO", replace("small", testkit.FIFO("small"))},
		{"file is a socket", replace("small", testkit.Socket("small"))},
		{"large is a link", replace("large", testkit.Symlink("small", "large"))},
		{"large is a socket", replace("large", testkit.Socket("large"))},
		{"link is a file", replace("link", testkit.TextFile("link", "small"))},
		{"empty directory removed", []testkit.Step{testkit.Remove("empty")}},
		{"directory renamed", []testkit.Step{testkit.Rename("dir", "other")}},
		{"directory is a link", []testkit.Step{testkit.Rename("dir", "other"), testkit.Symlink("other", "dir")}},
		{"directory replaced", []testkit.Step{testkit.Rename("dir", "other"), testkit.TextFile("dir/inner", "inner"), testkit.TextFile("dir/sub/leaf", "leaf")}},
	}
	if testkit.ProbeFeatures(t, t.TempDir()).UserXattrs {
		edits = append(edits,
			sourceEdit{"xattr of file", []testkit.Step{testkit.Xattr("small", "user.new", "")}},
			sourceEdit{"xattr of large", []testkit.Step{testkit.Xattr("large", "user.new", "")}},
			sourceEdit{"xattr of directory", []testkit.Step{testkit.Xattr("dir/sub", "user.new", "")}})
	}
	return edits
}

// A source that changes between the walk and the end of the read-back is an error. Ensure
// publishes nothing then, and leaves nothing behind.
func TestSourceChangesWhileCopied(t *testing.T) {
	edits := sourceEdits(t)
	// With one worker, the steps before and after the change are the same in every run.
	// With several, the change may also happen in the middle of a step.
	for _, when := range []struct {
		name string
		jobs int
		hook func(do func()) *hook
	}{
		{"planned", 1, func(do func()) *hook { return &hook{planned: do} }},
		{"copying", 1, onceCopied},
		{"reading back", 3, onceReadBack},
	} {
		for _, e := range edits {
			t.Run(e.name+" while "+when.name, func(t *testing.T) {
				s := newSite(t, t.TempDir(), t.TempDir())
				testkit.Apply(t, s.source, mixedTree()...)
				testkit.Apply(t, s.source, testkit.Times("large", unchangedTime, unchangedTime))
				waitForClockTick(t, s.ssd)
				change := when.hook(func() { testkit.Apply(t, s.source, e.steps...) })
				_, err := s.runEnsure(t.Context(), withJobs(when.jobs), withObserver(change))
				if !errors.Is(err, copier.ErrSourceChanged) {
					t.Errorf("Ensure: got %v, want %v", err, copier.ErrSourceChanged)
				}
				s.expectNothingLeft()
			})
		}
	}
}

// After the source changed during a copy, the next copy has the present state of the source.
func TestCopyAfterChange(t *testing.T) {
	s := newSite(t, t.TempDir(), t.TempDir())
	testkit.Apply(t, s.source, mixedTree()...)
	change := onceCopied(func() { testkit.Apply(t, s.source, testkit.TextFile("new", "")) })
	if _, err := s.runEnsure(t.Context(), withObserver(change)); !errors.Is(err, copier.ErrSourceChanged) {
		t.Errorf("Ensure: got %v, want %v", err, copier.ErrSourceChanged)
	}
	if r := s.mustCopy(); r.ResumedBytes != 0 {
		t.Errorf("got %d bytes resumed from an older state of the source, want 0", r.ResumedBytes)
	}
	s.mustRelease()
}
