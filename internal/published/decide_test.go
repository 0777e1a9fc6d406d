package published

import "testing"

// The rows say when a shard may be reused, replaced and deleted. A row matches
// all facts that it does not name; together they cover every combination.
func TestDecide(t *testing.T) {
	type row struct {
		name  string
		match func(Facts) bool
		want  Decision
	}
	rows := []row{
		{"absent", func(f Facts) bool { return !f.Exists }, Decision{Absent, MakeCopy, Nothing}},
		{"published", func(f Facts) bool { return f.Exists && f.Users && f.Bound }, Decision{Published, Join, Keep}},
		{"unproven", func(f Facts) bool { return f.Exists && f.Users && !f.Bound }, Decision{Unproven, Join, Keep}},

		{"orphan", func(f Facts) bool { return orphan(f) && !f.MountPoint && f.Compared == NotCompared }, Decision{Orphan, CompareFirst, Delete}},
		{"equal orphan", func(f Facts) bool { return orphan(f) && !f.MountPoint && f.Compared == Equal }, Decision{Orphan, Join, Delete}},
		{"different orphan", func(f Facts) bool { return orphan(f) && !f.MountPoint && f.Compared == Different }, Decision{Orphan, ReplaceIt, Delete}},
		{"mounted orphan", func(f Facts) bool { return orphan(f) && f.MountPoint }, Decision{Orphan, RefuseMount, CannotMove}},

		{"foreign", func(f Facts) bool { return foreign(f) && !f.MountPoint && !mayReplace(f) && !f.RemovedLast }, Decision{Foreign, RefuseIt, Leave}},
		{"foreign, may be replaced", func(f Facts) bool { return foreign(f) && !f.MountPoint && mayReplace(f) && !f.RemovedLast }, Decision{Foreign, ReplaceIt, Leave}},
		{"foreign, last user removed", func(f Facts) bool { return foreign(f) && !f.MountPoint && !mayReplace(f) && f.RemovedLast }, Decision{Foreign, RefuseIt, Delete}},
		{"foreign, both", func(f Facts) bool { return foreign(f) && !f.MountPoint && mayReplace(f) && f.RemovedLast }, Decision{Foreign, ReplaceIt, Delete}},
		{"foreign mount", func(f Facts) bool { return foreign(f) && f.MountPoint && !f.RemovedLast }, Decision{Foreign, RefuseMount, Leave}},
		{"foreign mount, last user removed", func(f Facts) bool { return foreign(f) && f.MountPoint && f.RemovedLast }, Decision{Foreign, RefuseMount, CannotMove}},
	}
	used := make([]bool, len(rows))
	for _, f := range everyFacts() {
		matches := 0
		for i, row := range rows {
			if !row.match(f) {
				continue
			}
			matches++
			used[i] = true
			if got := Decide(f); got != row.want {
				t.Errorf("%s, %+v: got %v, want %v", row.name, f, got, row.want)
			}
		}
		if matches != 1 {
			t.Errorf("%+v: %d rows, want 1", f, matches)
		}
	}
	for i, row := range rows {
		if !used[i] {
			t.Errorf("row %q matches nothing", row.name)
		}
	}
}

func orphan(f Facts) bool     { return f.Exists && !f.Users && f.Bound }
func foreign(f Facts) bool    { return f.Exists && !f.Users && !f.Bound }
func mayReplace(f Facts) bool { return f.ForceReplace || f.Managed }

// everyFacts returns every combination of facts.
func everyFacts() (all []Facts) {
	for bits := range 1 << 7 {
		bit := func(i int) bool { return bits>>i&1 == 1 }
		for _, compared := range []Comparison{NotCompared, Equal, Different} {
			all = append(all, Facts{Exists: bit(0), MountPoint: bit(1), Bound: bit(2), Users: bit(3),
				Compared: compared, Managed: bit(4), ForceReplace: bit(5), RemovedLast: bit(6)})
		}
	}
	return all
}

// With users, nothing is ever replaced or deleted; without a
// bound manifest, only a shard that the older script is known to have managed.
func TestDecideSafety(t *testing.T) {
	for _, f := range everyFacts() {
		d := Decide(f)
		if f.Users && (d.Copy == ReplaceIt || d.Remove == Delete) {
			t.Errorf("%+v: %v although there are users", f, d)
		}
		if !f.Bound && d.Remove == Delete && !f.RemovedLast {
			t.Errorf("%+v: %v although nothing is bound to it", f, d)
		}
		if f.Exists && f.MountPoint && (d.Copy == ReplaceIt || d.Remove == Delete) {
			t.Errorf("%+v: %v although it is a mount point", f, d)
		}
	}
}
