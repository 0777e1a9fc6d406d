package verify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/errs"
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/tree"
)

// ManifestVersion is the version of the manifest that this program writes, and the only
// one that it reads.
const ManifestVersion = 1

// The files of a manifest in a state dir.
const (
	ManifestName = "manifest"
	SumsName     = "sums.xxh64"
)

// ErrManifestDamaged is in the error of a manifest that is damaged. The shard itself may be
// good.
var ErrManifestDamaged = tree.ErrDamaged

// ErrManifestVersion is in the error of a manifest that a newer program wrote.
var ErrManifestVersion = tree.ErrVersion

// Header is the part of a manifest that describes the shard as a whole.
type Header struct {
	Tool    string       // version of the program that published it
	Shard   string       // its name
	Root    RootIdentity // binds the manifest to one directory
	Source  string       // path
	Origin  SourceIdentity
	LockDir string
	Time    time.Time // when it was published
	Files   int64     // regular files, hard-linked ones once
	Entries int64     // names of all kinds
	Bytes   int64     // lengths of the files
}

// RootIdentity distinguishes a directory from one that was made later under the same name. The
// time of birth is needed because ext4 reuses inode numbers.
type RootIdentity struct {
	Ino   uint64
	Btime sys.Time // zero where the file system has none
}

// SourceIdentity shows whether a source path still leads to the same shard.
type SourceIdentity struct {
	Dev, Ino uint64 // Dev is only shown: it changes when NFS is mounted again
	Mtime    sys.Time
}

// RootIdentityOf returns the Root of a file or directory.
func RootIdentityOf(s *sys.Stat) RootIdentity { return RootIdentity{s.Ino, s.Btime} }

func (h *Header) encodeFields() []tree.Field {
	return []tree.Field{
		{Key: "tool", Value: strconv.Quote(h.Tool)},
		{Key: "shard", Value: strconv.Quote(h.Shard)},
		{Key: "root", Value: fmt.Sprintf("%d %s", h.Root.Ino, formatTime(h.Root.Btime))},
		{Key: "source", Value: strconv.Quote(h.Source)},
		{Key: "origin", Value: fmt.Sprintf("%d %d %s", h.Origin.Dev, h.Origin.Ino, formatTime(h.Origin.Mtime))},
		{Key: "lockdir", Value: strconv.Quote(h.LockDir)},
		{Key: "published", Value: h.Time.UTC().Format(time.RFC3339Nano)},
		{Key: "blocksize", Value: strconv.Itoa(tree.BlockSize)},
		{Key: "totals", Value: fmt.Sprintf("%d %d %d", h.Files, h.Entries, h.Bytes)},
	}
}

func formatTime(t sys.Time) string { return fmt.Sprintf("%d.%09d", t.Sec, t.Nsec) }

// parseHeader is the inverse of encodeFields. Its error is that of the first bad field.
func parseHeader(d *tree.Decoder) (*Header, error) {
	h := &Header{}
	var err error
	fail := func(key string, cause error) {
		if err == nil && cause != nil {
			err = fmt.Errorf("%w: header line %q: %w", ErrManifestDamaged, key, cause)
		}
	}
	text := func(key string, into *string) {
		value, invalid := strconv.Unquote(d.Field(key))
		fail(key, invalid)
		*into = value
	}
	scan := func(key, format string, into ...any) {
		_, invalid := fmt.Sscanf(d.Field(key), format, into...)
		fail(key, invalid)
	}
	text("tool", &h.Tool)
	text("shard", &h.Shard)
	text("source", &h.Source)
	text("lockdir", &h.LockDir)
	scan("root", "%d %d.%d", &h.Root.Ino, &h.Root.Btime.Sec, &h.Root.Btime.Nsec)
	scan("origin", "%d %d %d.%d", &h.Origin.Dev, &h.Origin.Ino, &h.Origin.Mtime.Sec, &h.Origin.Mtime.Nsec)
	scan("totals", "%d %d %d", &h.Files, &h.Entries, &h.Bytes)
	published, invalid := time.Parse(time.RFC3339Nano, d.Field("published"))
	fail("published", invalid)
	h.Time = published
	if size := d.Field("blocksize"); size != strconv.Itoa(tree.BlockSize) {
		fail("blocksize", fmt.Errorf("got %.20q, want %d", size, tree.BlockSize))
	}
	return h, err
}

// ManifestWriter writes a manifest and, beside it, the checksums for xxhsum. Both files are
// written under temporary names and must be synced by the caller before Commit renames
// them: in the state dir a manifest is durable, or it is not there.
type ManifestWriter struct {
	state *sys.File
	files [2]*sys.File
	enc   *tree.Encoder
	sums  *sumsWriter
}

// fileNames are the names of Writer.files.
var fileNames = [2]string{SumsName, ManifestName}

const newSuffix = ".new"

// NewManifestWriter starts a manifest in the state dir. Close the Writer.
func NewManifestWriter(state *sys.File, h *Header) (*ManifestWriter, error) {
	w := &ManifestWriter{state: state}
	if err := w.createFiles(); err != nil {
		_ = w.Close() // the first error says more
		return nil, err
	}
	w.sums = newSumsWriter(w.files[0].Stream())
	var err error
	w.enc, err = tree.NewEncoder(w.files[1].Stream(), tree.ManifestKind, ManifestVersion, h.encodeFields())
	if err != nil {
		_ = w.Close() // the first error says more
		return nil, err
	}
	return w, nil
}

func (w *ManifestWriter) createFiles() (err error) {
	for i, name := range fileNames {
		if err := w.state.UnlinkIfExists(name + newSuffix); err != nil {
			return err
		}
		w.files[i], err = w.state.OpenAt(name+newSuffix, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, 0o600)
		if err != nil {
			return err
		}
	}
	return nil
}

// WriteRecord adds an entry. For a regular file whole is its XXH64. If the file has several
// blocks, their checksums follow with WriteSums.
func (w *ManifestWriter) WriteRecord(r *tree.Record, whole uint64) error {
	if r.Kind == tree.Regular {
		if err := w.sums.writeLine(r.RelativePath(), whole); err != nil {
			return err
		}
	}
	return w.enc.Write(r)
}

// WriteRegular adds a regular file whose XXH64 is whole. If the file has several blocks,
// it adds their checksums, too: sums returns those of n blocks from the block first on.
func (w *ManifestWriter) WriteRegular(r *tree.Record, whole uint64, sums func(first, n int64) ([]uint64, error)) error {
	r.Sum = whole
	if err := w.WriteRecord(r, whole); err != nil {
		return err
	}
	blocks := tree.BlockCount(r.Size)
	if blocks < 2 {
		return nil
	}
	for first := int64(0); first < blocks; first += tree.SumsPerLine {
		some, err := sums(first, min(tree.SumsPerLine, blocks-first))
		if err != nil {
			return err
		}
		if err := w.WriteSums(some); err != nil {
			return err
		}
	}
	return nil
}

// WriteSums adds the checksums of up to tree.SumsPerLine blocks of the last file.
func (w *ManifestWriter) WriteSums(sums []uint64) error {
	return w.enc.Write(&tree.Record{Kind: tree.Sums, Sums: sums})
}

// Finish writes the trailer and everything that is buffered. The caller must sync Files
// before Commit.
func (w *ManifestWriter) Finish() error {
	if err := w.sums.flush(); err != nil {
		return err
	}
	return w.enc.Close()
}

// OpenFiles returns the open files, for the caller to sync.
func (w *ManifestWriter) OpenFiles() []*sys.File { return w.files[:] }

// DropUncommittedManifest deletes the files of a Writer that did not reach Commit.
func DropUncommittedManifest(state *sys.File) error {
	var err error
	for _, name := range fileNames {
		err = errs.Join(err, state.UnlinkIfExists(name+newSuffix))
	}
	return err
}

// Commit gives the synced files their names. The caller must sync the state dir after it.
func (w *ManifestWriter) Commit() error {
	for _, name := range fileNames {
		if err := w.state.RenameAt(name+newSuffix, w.state, name, sys.Replace); err != nil {
			return err
		}
	}
	return nil
}

// Close closes the files and drops their synced pages from the page cache. A second call
// does nothing.
func (w *ManifestWriter) Close() (err error) {
	for i, f := range w.files {
		if f == nil {
			continue
		}
		_ = f.DropCached(0, 0) // costs memory only
		if closed := f.Close(); err == nil {
			err = closed
		}
		w.files[i] = nil
	}
	return err
}

// Manifest is an open manifest.
type Manifest struct {
	Header
	file      *sys.File
	readToEnd bool
}

// OpenManifest opens the manifest in a state dir and reads only its header. The error is
// fs.ErrNotExist if the state dir has no manifest. Close the Manifest.
func OpenManifest(state *sys.File) (*Manifest, error) {
	return openManifest(state, ManifestName)
}

// OpenUncommittedManifest opens a manifest that is not committed yet.
func OpenUncommittedManifest(state *sys.File) (*Manifest, error) {
	return openManifest(state, ManifestName+newSuffix)
}

func openManifest(state *sys.File, name string) (*Manifest, error) {
	f, err := state.OpenAt(name, unix.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	m := &Manifest{file: f}
	h, err := m.readHeader()
	if err != nil {
		f.Close()
		return nil, m.wrapError(err)
	}
	m.Header = *h
	return m, nil
}

func (m *Manifest) readHeader() (*Header, error) {
	d, err := m.newDecoder()
	if err != nil {
		return nil, err
	}
	return parseHeader(d)
}

// newDecoder starts at the beginning of the manifest.
func (m *Manifest) newDecoder() (*tree.Decoder, error) {
	return tree.NewDecoder(m.file.Stream(), tree.ManifestKind, ManifestVersion)
}

func (m *Manifest) wrapError(err error) error {
	return fmt.Errorf("manifest %s: %w", m.file.Path(), err)
}

// Close closes the manifest. If all of it was read, its pages are dropped from the page
// cache, since no other process reads it. A manifest that is opened only for its header
// stays cached: that happens again and again.
func (m *Manifest) Close() error {
	if m.readToEnd {
		_ = m.file.DropCached(0, 0) // costs memory only
	}
	return m.file.Close()
}

// BoundTo reports whether the manifest was written for this very file or directory, and
// not for an earlier one of the same name.
func (m *Manifest) BoundTo(s *sys.Stat) bool { return m.Root == RootIdentityOf(s) }

// FirstRecord returns the first record, which is that of the shard itself.
func (m *Manifest) FirstRecord() (*tree.Record, error) {
	d, err := m.newDecoder()
	if err != nil {
		return nil, m.wrapError(err)
	}
	r, err := d.Next()
	if err != nil {
		return nil, m.wrapError(err)
	}
	return r, nil
}

// Check reads the whole manifest. It returns ErrManifestDamaged or ErrManifestVersion if
// the manifest is not valid, and the cause of ctx if that ends first. Only the records of a
// valid manifest can be trusted.
func (m *Manifest) Check(ctx context.Context) error {
	return m.EachRecord(func(*tree.Record) error { return context.Cause(ctx) })
}

// EachRecord calls f for every record; the record is valid until f returns. It stops at the
// first error of f and returns it. The manifest must have been checked.
func (m *Manifest) EachRecord(f func(*tree.Record) error) error {
	d, err := m.newDecoder()
	if err != nil {
		return m.wrapError(err)
	}
	for {
		r, err := d.Next()
		if err == io.EOF {
			m.readToEnd = true
			return nil
		}
		if err != nil {
			return m.wrapError(err)
		}
		if err := f(r); err != nil {
			return err
		}
	}
}

// CheckManifest reads the manifest of a state dir, bound or not, and returns
// ErrManifestDamaged or ErrManifestVersion if it cannot be used. No manifest is no error.
func CheckManifest(ctx context.Context, state *sys.File) error {
	m, err := OpenManifest(state)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer m.Close()
	return m.Check(ctx)
}
