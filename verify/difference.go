package verify

// DifferenceKind names the property of an entry that differs from the manifest.
type DifferenceKind string

// The kinds of difference.
const (
	Content    DifferenceKind = "content"
	Missing    DifferenceKind = "missing"
	Extra      DifferenceKind = "extra"
	Type       DifferenceKind = "type"
	Size       DifferenceKind = "size"
	Mode       DifferenceKind = "mode"
	Owner      DifferenceKind = "owner"
	Mtime      DifferenceKind = "mtime"
	LinkTarget DifferenceKind = "link-target"
	HardLink   DifferenceKind = "hard-link" // a name is not linked with its first name, or is linked with another file
	Xattrs     DifferenceKind = "xattrs"
	Unreadable DifferenceKind = "unreadable"
)

// Difference is one way in which a tree differs from its manifest, or a file from its
// line in a list of checksums.
type Difference struct {
	Path   string         `json:"path"` // below the shard; "." is the shard itself
	Kind   DifferenceKind `json:"kind"`
	Detail string         `json:"detail,omitempty"` // the value found and the value published, or the error
	Ranges []ByteRange    `json:"ranges,omitempty"` // the bytes that differ or cannot be read, if known
	Side   Side           `json:"side,omitempty"`   // set only if the source was compared too
}

// Side names the side that differs from the manifest: the SSD or the source.
type Side string

// The sides.
const (
	OnSSD    Side = "ssd"    // the SSD is damaged
	InSource Side = "source" // the source has changed since the shard was published
	OnBoth   Side = "both"
)

// ByteRange is the bytes from From up to To, without To.
type ByteRange struct {
	From int64 `json:"from"`
	To   int64 `json:"to"`
}
