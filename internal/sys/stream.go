package sys

import "io"

// Stream reads or writes a file from its start. It is an io.Reader and an io.Writer.
type Stream struct {
	f   *File
	off int64
}

// Stream returns a Stream at offset 0 of the file.
func (f *File) Stream() *Stream { return &Stream{f: f} }

func (s *Stream) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := s.f.ReadAt(p, 1, s.off)
	s.off += int64(n)
	if n == 0 && err == nil {
		err = io.EOF
	}
	return n, err
}

func (s *Stream) Write(p []byte) (int, error) {
	if err := s.f.WriteAt(p, s.off); err != nil {
		return 0, err
	}
	s.off += int64(len(p))
	return len(p), nil
}
