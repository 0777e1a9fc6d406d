package verify

import (
	"fmt"
	"os"
	"strings"

	"shard_to_ssd/internal/humanize"
)

// Bounds of the entries that a list keeps: a whole shard may be wrong, and a path may have 256 KiB.
const (
	MaxKept      = 10_000
	MaxKeptBytes = 16 << 20
)

// KeepLimit decides how many entries a list keeps. It counts all.
type KeepLimit struct{ Count, bytes int64 }

// Take counts one more entry with that many bytes of text, and reports whether the list
// keeps it.
func (k *KeepLimit) Take(bytes int) bool {
	k.Count++
	k.bytes += int64(bytes)
	return k.Count <= MaxKept && k.bytes <= MaxKeptBytes
}

// DifferenceList counts differences, and keeps the first ones.
type DifferenceList struct {
	Kept []Difference
	KeepLimit
}

// Add takes a difference.
func (l *DifferenceList) Add(d Difference) {
	if l.Take(len(d.Path) + len(d.Detail) + 16*len(d.Ranges)) {
		l.Kept = append(l.Kept, d)
	}
}

// FirstDifference keeps the first of many differences, and their number.
type FirstDifference struct {
	Count int
	first Difference
}

// Add takes a difference.
func (f *FirstDifference) Add(d Difference) {
	if f.Count++; f.Count == 1 {
		f.first = d
	}
}

// String describes the first difference, and how many there are.
func (f *FirstDifference) String() string {
	text := fmt.Sprintf("%q: %s %s", f.first.Path, f.first.Kind, f.first.Detail)
	if f.Count > 1 {
		text = fmt.Sprintf("%s, the first: %s", humanize.Count(f.Count, "place"), text)
	}
	return strings.TrimSpace(text)
}

// SideJoiner adds the differences of the source to a list of those of the SSD.
type SideJoiner struct {
	FromSource int64 // differences of the source

	list  *DifferenceList
	index map[differencePlace]int // into list.Kept
}

// differencePlace is an entry, and the property that differs.
type differencePlace struct {
	path string
	kind DifferenceKind
}

// NewSideJoiner marks the differences in a list as those of the SSD.
func NewSideJoiner(l *DifferenceList) *SideJoiner {
	j := &SideJoiner{list: l, index: map[differencePlace]int{}}
	for i := range l.Kept {
		d := &l.Kept[i]
		d.Side = OnSSD
		j.index[differencePlace{d.Path, d.Kind}] = i
	}
	return j
}

// AddSource takes a difference between the source and the manifest. If both sides differ
// in the same place, that is one difference, with the ranges of the SSD.
func (j *SideJoiner) AddSource(d Difference) {
	j.FromSource++
	i, both := j.index[differencePlace{d.Path, d.Kind}]
	if !both {
		d.Side = InSource
		j.list.Add(d)
		return
	}
	on := &j.list.Kept[i]
	on.Side = OnBoth
	if d.Detail != "" {
		on.Detail += "; in the source " + d.Detail
	}
}

// IgnoreOwners drops differences of owners between a source and a manifest, unless this
// is root: only root can give files away, so other users own their copies.
func IgnoreOwners(report func(Difference)) func(Difference) {
	asRoot := os.Geteuid() == 0
	return func(d Difference) {
		if d.Kind != Owner || asRoot {
			report(d)
		}
	}
}

// SeenFromSSD turns a difference of a source from the manifest of a shard on the SSD into
// a difference of the SSD from the source.
func SeenFromSSD(d Difference) Difference {
	switch d.Kind {
	case Missing:
		d.Kind = Extra
	case Extra:
		d.Kind = Missing
	case HardLink:
		d.Detail = "in the source " + d.Detail
	}
	found, ok := strings.CutPrefix(d.Detail, "found ")
	if !ok {
		return d
	}
	d.Detail = "the source has " + found
	if i := strings.LastIndex(d.Detail, ", published "); i >= 0 {
		d.Detail = d.Detail[:i] + ", the SSD " + strings.TrimPrefix(d.Detail[i+len(", published "):], "as ")
	}
	return d
}

// IsMetadata reports whether a difference is one of an entry's metadata alone.
func IsMetadata(kind DifferenceKind) bool {
	switch kind {
	case Mode, Owner, Mtime, Xattrs:
		return true
	}
	return false
}
