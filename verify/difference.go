package verify

// Kind is in what an entry differs from what was published.
type Kind string

// The kinds of difference.
const (
	Content    Kind = "content"
	Missing    Kind = "missing"
	Extra      Kind = "extra"
	Type       Kind = "type"
	Size       Kind = "size"
	Mode       Kind = "mode"
	Owner      Kind = "owner"
	Mtime      Kind = "mtime"
	LinkTarget Kind = "link-target"
	HardLink   Kind = "hard-link" // not the same file as its first name, or linked with another
	Xattrs     Kind = "xattrs"
	Unreadable Kind = "unreadable"
)

// Difference is one thing that is not as it was published.
type Difference struct {
	Path   string  `json:"path"` // below the shard; "." is the shard itself
	Kind   Kind    `json:"kind"`
	Detail string  `json:"detail,omitempty"` // found and expected
	Ranges []Range `json:"ranges,omitempty"` // content: the blocks that differ
	Side   Side    `json:"side,omitempty"`   // which changed, where the source was looked at too
}

// Side is which of SSD and source is not as it was published.
type Side string

// The sides.
const (
	OnSSD    Side = "ssd"    // the SSD is damaged
	InSource Side = "source" // the source has changed since
	OnBoth   Side = "both"
)

// Range is the bytes from From up to, but without, To.
type Range struct {
	From int64 `json:"from"`
	To   int64 `json:"to"`
}
