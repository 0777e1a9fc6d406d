package tree

// FileSum is the checksum of a small file of a directory.
type FileSum struct {
	Name string
	Size int64  // bytes, at most a block
	Sum  uint64 // XXH64 of its contents
	Err  error  // why there is no Sum; io.ErrUnexpectedEOF if the file is too short
}
