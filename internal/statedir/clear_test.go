package statedir

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"shard_to_ssd/internal/sys"
)

// openTest makes the state dir of a shard in a new SSD dir.
func openTest(t *testing.T) *Dir {
	t.Helper()
	ssd, err := sys.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ssd.Close() })
	d, err := Make(ssd, "shard")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

// fill puts one of everything that can be left into the state dir, beside the
// records that no Clear may delete.
func fill(t *testing.T, d *Dir) {
	t.Helper()
	for _, dir := range []string{"stage/a", "trash/b"} {
		if err := os.MkdirAll(filepath.Join(d.Path(), dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"stage/a/f", "trash/b/f", "journal", "plan", "manifest.new", "sums.xxh64.new",
		"manifest", "sums.xxh64", "lockdir", "verified", "damaged"} {
		if err := os.WriteFile(filepath.Join(d.Path(), file), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func names(t *testing.T, d *Dir) []string {
	t.Helper()
	all, err := d.ListNames(make([]byte, 4096))
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(all)
	return all
}

// Each set deletes its own leftovers and nothing else; the published shard's records
// stay whatever is cleared.
func TestClearDeletesItsSet(t *testing.T) {
	everything := []string{"damaged", "journal", "lockdir", "manifest", "manifest.new", "plan", "stage", "sums.xxh64", "sums.xxh64.new", "trash", "verified"}
	for _, test := range []struct {
		name    string
		set     Leftovers
		deleted []string
	}{
		{"nothing", 0, nil},
		{"trash", Trash, []string{"trash"}},
		{"stage", Stage, []string{"stage", "journal"}},
		{"journal", Journal, []string{"journal"}},
		{"plan", Plan, []string{"plan"}},
		{"uncommitted manifest", UncommittedManifest, []string{"manifest.new", "sums.xxh64.new"}},
		{"copy", Copy, []string{"stage", "journal", "plan"}},
		{"recording", Recording, []string{"journal", "plan", "manifest.new", "sums.xxh64.new"}},
		{"copy and trash", Copy | Trash, []string{"stage", "journal", "plan", "trash"}},
		{"all", All, []string{"stage", "journal", "plan", "trash", "manifest.new", "sums.xxh64.new"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := openTest(t)
			fill(t, d)
			for range 2 { // clearing is idempotent
				if err := d.Clear(t.Context(), test.set, 2); err != nil {
					t.Fatal(err)
				}
				want := slices.DeleteFunc(slices.Clone(everything), func(name string) bool { return slices.Contains(test.deleted, name) })
				if got := names(t, d); !slices.Equal(got, want) {
					t.Errorf("left %q, want %q", got, want)
				}
			}
		})
	}
}

// One kind that cannot be deleted keeps none of the others, and every error is
// reported in one line.
func TestClearTriesEveryKind(t *testing.T) {
	d := openTest(t)
	if err := os.MkdirAll(filepath.Join(d.Path(), "manifest.new", "not a file"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(d.Path(), "trash"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := d.Clear(t.Context(), All, 1); err == nil {
		t.Error("no error for a directory in the place of an uncommitted manifest")
	}
	if got := names(t, d); !slices.Equal(got, []string{"manifest.new"}) {
		t.Errorf("left %q, want only what cannot be deleted", got)
	}
}

func TestLeftoversAreSeen(t *testing.T) {
	for name, want := range map[string]bool{"trash": true, "stage": true, "journal": true, "plan": true, "manifest": false, "verified": false} {
		d := openTest(t)
		if err := os.WriteFile(filepath.Join(d.Path(), name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if got := d.HasLeftovers(); got != want {
			t.Errorf("with %s: HasLeftovers = %v, want %v", name, got, want)
		}
	}
}
