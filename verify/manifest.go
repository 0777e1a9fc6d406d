package verify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/errs"
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/tree"
)

// ManifestVersion is the version of the manifest that this program writes, and
// the only one it reads.
const ManifestVersion = 1

// The files of a manifest in a state dir.
const (
	ManifestName = "manifest"
	SumsName     = "sums.xxh64"
)

// ErrManifest is in the error of a manifest that is damaged, which says nothing
// of the shard.
var ErrManifest = tree.ErrDamaged

// ErrVersion is in the error of a manifest that a newer program wrote.
var ErrVersion = tree.ErrVersion

// Header is what a manifest says of the shard as a whole.
type Header struct {
	Tool    string // version of the program that published it
	Shard   string
	Root    Root   // binds the manifest to one very directory
	Source  string // path
	Origin  Identity
	LockDir string
	Time    time.Time // when it was published
	Files   int64     // regular files, hard-linked ones once
	Entries int64     // names of all kinds
	Bytes   int64     // lengths of the files
}

// Root tells a directory from one that was made later under the same name: ext4
// gives inode numbers out again, but not with the same time of birth.
type Root struct {
	Ino   uint64
	Btime sys.Time // zero where the file system has none
}

// Identity is what tells that a source path still leads to the same shard.
type Identity struct {
	Dev, Ino uint64 // Dev is for people: it changes when NFS is mounted again
	Mtime    sys.Time
}

// RootOf is the Root of a file or directory.
func RootOf(s *sys.Stat) Root { return Root{s.Ino, s.Btime} }

func (h *Header) fields() []tree.Field {
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

// parseHeader reads the fields that fields wrote.
func parseHeader(d *tree.Decoder) (*Header, error) {
	h := &Header{}
	var err error
	text := func(key string, into *string) {
		value, unquoted := strconv.Unquote(d.Field(key))
		if unquoted != nil && err == nil {
			err = fmt.Errorf("%w: header line %q", ErrManifest, key)
		}
		*into = value
	}
	scan := func(key, format string, into ...any) {
		if _, scanned := fmt.Sscanf(d.Field(key), format, into...); scanned != nil && err == nil {
			err = fmt.Errorf("%w: header line %q: %w", ErrManifest, key, scanned)
		}
	}
	text("tool", &h.Tool)
	text("shard", &h.Shard)
	text("source", &h.Source)
	text("lockdir", &h.LockDir)
	scan("root", "%d %d.%d", &h.Root.Ino, &h.Root.Btime.Sec, &h.Root.Btime.Nsec)
	scan("origin", "%d %d %d.%d", &h.Origin.Dev, &h.Origin.Ino, &h.Origin.Mtime.Sec, &h.Origin.Mtime.Nsec)
	scan("totals", "%d %d %d", &h.Files, &h.Entries, &h.Bytes)
	published, parsed := time.Parse(time.RFC3339Nano, d.Field("published"))
	if parsed != nil && err == nil {
		err = fmt.Errorf("%w: header line %q: %w", ErrManifest, "published", parsed)
	}
	h.Time = published
	if size := d.Field("blocksize"); size != strconv.Itoa(tree.BlockSize) && err == nil {
		err = fmt.Errorf("%w: block size %.20q", ErrManifest, size)
	}
	return h, err
}

// Writer writes a manifest and the sums for xxhsum beside it. Both come to their
// names in the state dir at once durable or not at all: first under a temporary
// name, synced by the caller, then renamed by Commit.
type Writer struct {
	state *sys.File
	files [2]*sys.File
	enc   *tree.Encoder
	sums  *sumsWriter
}

var parts = [2]string{SumsName, ManifestName}

const newSuffix = ".new"

// NewWriter starts a manifest in the state dir.
func NewWriter(state *sys.File, h *Header) (*Writer, error) {
	w := &Writer{state: state}
	for i, name := range parts {
		if err := state.UnlinkIfThere(name + newSuffix); err != nil {
			return nil, err
		}
		f, err := state.OpenAt(name+newSuffix, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, 0o600)
		if err != nil {
			w.Close() //nolint:errcheck // after a failure
			return nil, err
		}
		w.files[i] = f
	}
	w.sums = newSumsWriter(w.files[0].Stream())
	var err error
	w.enc, err = tree.NewEncoder(w.files[1].Stream(), tree.ManifestKind, ManifestVersion, h.fields())
	return w, err
}

// Write adds an entry. For a regular file whole is its XXH64; the sums of the
// blocks of one that has several follow with WriteSums.
func (w *Writer) Write(r *tree.Record, whole uint64) error {
	if r.Kind == tree.Regular {
		if err := w.sums.write(r.Below(), whole); err != nil {
			return err
		}
	}
	return w.enc.Write(r)
}

// WriteRegular adds a regular file whose XXH64 is whole, and the sums of its blocks if it
// has several: sums are those of n blocks from the first on.
func (w *Writer) WriteRegular(r *tree.Record, whole uint64, sums func(first, n int64) ([]uint64, error)) error {
	r.Sum = whole
	if err := w.Write(r, whole); err != nil {
		return err
	}
	blocks := tree.Blocks(r.Size)
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

// WriteSums adds sums of up to tree.SumsPerLine blocks of the file before.
func (w *Writer) WriteSums(sums []uint64) error {
	return w.enc.Write(&tree.Record{Kind: tree.Sums, Sums: sums})
}

// Finish writes what is left, to be synced by the caller.
func (w *Writer) Finish() error {
	if err := w.sums.flush(); err != nil {
		return err
	}
	return w.enc.Close()
}

// Files are the open files, for the caller's sync.
func (w *Writer) Files() []*sys.File { return w.files[:] }

// DropUncommitted deletes what a Writer that did not come to Commit has left.
func DropUncommitted(state *sys.File) error {
	var err error
	for _, name := range parts {
		err = errs.Join(err, state.UnlinkIfThere(name+newSuffix))
	}
	return err
}

// Commit gives the synced files their names. The state dir has to be synced
// after.
func (w *Writer) Commit() error {
	for _, name := range parts {
		if err := w.state.RenameAt(name+newSuffix, w.state, name, sys.Replace); err != nil {
			return err
		}
	}
	return nil
}

// Close closes the files, and leaves nothing of them in the page cache, as far as they
// were synced; it may be called again.
func (w *Writer) Close() (err error) {
	for i, f := range w.files {
		if f == nil {
			continue
		}
		f.Forget(0, 0) //nolint:errcheck // costs memory only
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
	file  *sys.File
	whole bool // it was read to its end
}

// OpenManifest opens the manifest in a state dir and reads its header, no more.
// That it is not there is fs.ErrNotExist. Close it.
func OpenManifest(state *sys.File) (*Manifest, error) {
	return openManifest(state, ManifestName)
}

// OpenNewManifest opens a manifest that is not committed yet.
func OpenNewManifest(state *sys.File) (*Manifest, error) {
	return openManifest(state, ManifestName+newSuffix)
}

func openManifest(state *sys.File, name string) (*Manifest, error) {
	f, err := state.OpenAt(name, unix.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	m := &Manifest{file: f}
	d, err := m.decoder()
	if err == nil {
		var h *Header
		if h, err = parseHeader(d); err == nil {
			m.Header = *h
			return m, nil
		}
	}
	f.Close() //nolint:errcheck // opened for reading
	return nil, fmt.Errorf("manifest %s: %w", f.Path(), err)
}

func (m *Manifest) decoder() (*tree.Decoder, error) {
	return tree.NewDecoder(m.file.Stream(), tree.ManifestKind, ManifestVersion)
}

// Close closes the manifest. If all of it was read, it leaves nothing of it in the page
// cache: nobody else reads it. What is opened for its header, again and again, stays.
func (m *Manifest) Close() error {
	if m.whole {
		m.file.Forget(0, 0) //nolint:errcheck // costs memory only
	}
	return m.file.Close()
}

// BoundTo reports whether the manifest was written for this very file or
// directory.
func (m *Manifest) BoundTo(s *sys.Stat) bool { return m.Root == RootOf(s) }

// First is the first record: of the shard itself.
func (m *Manifest) First() (*tree.Record, error) {
	d, err := m.decoder()
	if err == nil {
		var r *tree.Record
		if r, err = d.Next(); err == nil {
			return r, nil
		}
	}
	return nil, fmt.Errorf("manifest %s: %w", m.file.Path(), err)
}

// Check reads the whole manifest and says whether it is one. Only then do its
// records mean anything.
func (m *Manifest) Check() error { return m.CheckUntil(context.Background()) }

// CheckUntil is Check that the end of ctx ends, with its cause.
func (m *Manifest) CheckUntil(ctx context.Context) error {
	return m.each(func(*tree.Record) error { return context.Cause(ctx) })
}

// Each calls f for every record, which is valid until f returns. The manifest must
// have been checked.
func (m *Manifest) Each(f func(*tree.Record) error) error { return m.each(f) }

// each calls f for every record.
func (m *Manifest) each(f func(*tree.Record) error) error {
	d, err := m.decoder()
	for err == nil {
		var r *tree.Record
		if r, err = d.Next(); err != nil {
			break
		}
		if err := f(r); err != nil {
			return err
		}
	}
	if err == io.EOF {
		m.whole = true
		return nil
	}
	return fmt.Errorf("manifest %s: %w", m.file.Path(), err)
}

// isShort reports that a block could not be read because the file ends early.
func isShort(err error) bool { return errors.Is(err, io.ErrUnexpectedEOF) }

// below is how messages and differences name an entry.
func below(path, name string) string {
	if name == "." {
		name = ""
	}
	joined := strings.Trim(path+"/"+name, "/")
	if joined == "" {
		return "."
	}
	return joined
}
