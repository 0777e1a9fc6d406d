package repair

import (
	"maps"
	"testing"

	"shard_to_ssd/verify"
)

// The worst difference of an entry decides how it is repaired.
func TestWorstDifferenceDecides(t *testing.T) {
	for _, test := range []struct {
		name  string
		kinds []verify.DifferenceKind
		want  Action
	}{
		{"time", []verify.DifferenceKind{verify.Mtime}, SetMetadata},
		{"mode", []verify.DifferenceKind{verify.Mode}, SetMetadata},
		{"owner and time", []verify.DifferenceKind{verify.Owner, verify.Mtime}, SetMetadata},
		{"attributes", []verify.DifferenceKind{verify.Xattrs, verify.Mode}, SetMetadata},
		{"contents", []verify.DifferenceKind{verify.Content}, Recopied},
		{"contents, then time", []verify.DifferenceKind{verify.Content, verify.Mtime}, Recopied},
		{"time, then contents", []verify.DifferenceKind{verify.Mtime, verify.Content}, Recopied},
		{"missing", []verify.DifferenceKind{verify.Missing}, Recopied},
		{"size", []verify.DifferenceKind{verify.Size}, Recopied},
		{"type", []verify.DifferenceKind{verify.Type}, Recopied},
		{"link target", []verify.DifferenceKind{verify.LinkTarget}, Recopied},
		{"hard link", []verify.DifferenceKind{verify.HardLink}, Recopied},
		{"unreadable", []verify.DifferenceKind{verify.Unreadable}, Recopied},
		{"extra", []verify.DifferenceKind{verify.Extra}, TakenAway},
	} {
		p := NewPlan()
		if !p.IsEmpty() {
			t.Fatal("a new plan is not empty")
		}
		for _, kind := range test.kinds {
			p.Add(verify.Difference{Path: "d/f", Kind: kind})
		}
		got := map[string]Action{}
		p.EachAction(func(path string, action Action) { got[path] = action })
		if want := map[string]Action{"d/f": test.want}; !maps.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", test.name, got, want)
		}
	}
}

// Everything that is changed is examined again: the entry, and its directory, whose time
// changes with it. After a failed read the whole shard is suspect.
func TestSuspects(t *testing.T) {
	p := NewPlan()
	p.Add(verify.Difference{Path: "d/f", Kind: verify.Content})
	for path, want := range map[string]bool{"d/f": true, "d": true, "d/other": false, "e": false} {
		if got := p.Suspects().Contains(path); got != want {
			t.Errorf("%s is suspect: got %v, want %v", path, got, want)
		}
	}
	p.Add(verify.Difference{Path: "e", Kind: verify.Unreadable})
	if p.Suspects() != nil {
		t.Error("after a failed read: got some entries, want the whole shard")
	}
}

// A source whose directory has other metadata can still repair the shard. A file that
// differs cannot.
func TestDifferencesThatPrevent(t *testing.T) {
	p := NewPlan()
	p.dirs["d"] = true
	for _, test := range []struct {
		path string
		kind verify.DifferenceKind
		want bool
	}{
		{"d", verify.Mtime, false}, {"d", verify.Mode, false}, {"d", verify.Owner, false}, {"d", verify.Xattrs, true},
		{"d", verify.Missing, true}, {"d/f", verify.Mtime, true}, {"d/f", verify.Content, true},
	} {
		if got := p.Prevents(verify.Difference{Path: test.path, Kind: test.kind}); got != test.want {
			t.Errorf("%s %s: got %v, want %v", test.path, test.kind, got, test.want)
		}
	}
}

func TestRootIsBroken(t *testing.T) {
	for kind, want := range map[verify.DifferenceKind]bool{verify.Mtime: false, verify.Xattrs: false, verify.Unreadable: true, verify.Type: true} {
		p := NewPlan()
		p.Add(verify.Difference{Path: ".", Kind: kind})
		if got := p.RootIsBroken(); got != want {
			t.Errorf("%s: got %v, want %v", kind, got, want)
		}
	}
}
