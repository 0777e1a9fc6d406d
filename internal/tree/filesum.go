package tree

// FileSum is a small file of a directory, and what it was found to hold.
type FileSum struct {
	Name string
	Size int64  // bytes, at most a block
	Sum  uint64 // XXH64 of its contents
	Err  error  // why there is no sum; io.ErrUnexpectedEOF for a file that is too short
}
