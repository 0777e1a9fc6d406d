package bench

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"shard_to_ssd/internal/errs"
)

// ErrVersion is in the error for a file of an unknown format version.
var ErrVersion = errors.New("unknown result version")

// maxResultSize is the largest file that Decode reads, in bytes. A day of points, two a
// second, takes about 20 MB.
const maxResultSize = 1 << 30

// Save writes a result to a file, completely or not at all: the old file stays until the
// new one is on stable storage.
func Save(path string, r *Result) error {
	text, err := encodeJSON(r)
	if err != nil {
		return fmt.Errorf("write result %s: %w", path, err)
	}
	return WriteAtomic(path, text)
}

// RefuseBlockDevice returns an error if path is a block device or a link to one. Nothing
// may overwrite the data of a drive, even if a user names it by mistake.
func RefuseBlockDevice(path string) error {
	info, err := os.Stat(path)
	if err == nil && info.Mode()&(os.ModeDevice|os.ModeCharDevice) == os.ModeDevice {
		return errors.New("it is a block device: name a file instead")
	}
	return nil
}

// WriteAtomic writes text to a file, completely or not at all. If path exists and is not
// a regular file, such as a pipe or /dev/null, it writes into that instead of replacing
// it. It refuses a block device.
func WriteAtomic(path string, text []byte) error {
	if err := RefuseBlockDevice(path); err != nil {
		return &os.PathError{Op: "write", Path: path, Err: err}
	}
	if info, err := os.Lstat(path); err == nil && !info.Mode().IsRegular() {
		return writeInPlace(path, text)
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	if err := errs.Join(writeAndSync(f, text), f.Close()); err != nil {
		return errs.Join(err, os.Remove(f.Name()))
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return errs.Join(err, os.Remove(f.Name()))
	}
	return syncDir(filepath.Dir(path))
}

// writeInPlace truncates the file and writes text into it.
func writeInPlace(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errs.Join(err, f.Close())
}

// writeAndSync writes text to a new file and syncs it.
func writeAndSync(f *os.File, text []byte) error {
	if _, err := f.Write(text); err != nil {
		return err
	}
	// CreateTemp makes a private file, but others may read a result.
	if err := f.Chmod(0o644); err != nil {
		return err
	}
	return f.Sync()
}

// syncDir syncs the names in a directory to stable storage.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errs.Join(d.Sync(), d.Close())
}

// WriteOutput writes text to file as WriteAtomic does, or to out if file is empty.
func WriteOutput(out io.Writer, file string, text []byte) error {
	if file != "" {
		return WriteAtomic(file, text)
	}
	_, err := out.Write(text)
	return err
}

// Encode writes a result as JSON, as Save does.
func Encode(to io.Writer, r *Result) error {
	text, err := encodeJSON(r)
	if err != nil {
		return err
	}
	_, err = to.Write(text)
	return err
}

func encodeJSON(r *Result) ([]byte, error) {
	if r.Version != ResultVersion {
		return nil, fmt.Errorf("%w: got %d, want %d", ErrVersion, r.Version, ResultVersion)
	}
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	err := e.Encode(r)
	return text.Bytes(), err
}

// Load reads a result that Save has written. It refuses a file of another version, an
// incomplete file, and a file with unknown fields.
func Load(path string) (*Result, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r, err := Decode(f)
	if err != nil {
		return nil, fmt.Errorf("read result %s: %w", path, err)
	}
	return r, nil
}

// LoadAll loads several results.
func LoadAll(paths []string) ([]*Result, error) {
	results := make([]*Result, len(paths))
	for i, path := range paths {
		var err error
		if results[i], err = Load(path); err != nil {
			return nil, err
		}
	}
	return results, nil
}

// Decode reads a result as Load does.
func Decode(from io.Reader) (*Result, error) {
	text, err := io.ReadAll(io.LimitReader(from, maxResultSize+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxResultSize {
		return nil, fmt.Errorf("not a result: larger than %d bytes", maxResultSize)
	}
	if err := checkVersion(text); err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	var r Result
	if err := d.Decode(&r); err != nil {
		return nil, fmt.Errorf("not a result: %w", err)
	}
	return &r, checkNumbers(&r)
}

// checkVersion runs before the fields are decoded. Otherwise a file of a later version
// would be refused for its unknown fields, which hides the real cause.
func checkVersion(text []byte) error {
	var head struct {
		Version *int `json:"version"`
	}
	// Unmarshal refuses text after the value.
	if err := json.Unmarshal(text, &head); err != nil {
		if text = bytes.TrimSpace(text); len(text) > 0 && text[0] == '{' {
			return fmt.Errorf("damaged or cut off: %w", err)
		}
		return fmt.Errorf("not a result: %w", err)
	}
	if head.Version == nil {
		return errors.New("not a result: it has no version")
	}
	if *head.Version != ResultVersion {
		return fmt.Errorf("%w: got %d, this program reads %d", ErrVersion, *head.Version, ResultVersion)
	}
	return nil
}

// checkNumbers refuses numbers that no measurement has, so that reports and comparisons
// need not check them.
func checkNumbers(r *Result) error {
	if r.Started.IsZero() {
		return errors.New("not a result: it has no start time")
	}
	for i, c := range r.Ceilings {
		if !allPositive(c.Rates...) {
			return fmt.Errorf("ceiling %d: a rate is not above 0", i)
		}
	}
	for i, c := range r.Cases {
		if c.Bytes < 0 || c.Ceiling < 0 {
			return fmt.Errorf("case %d (%s): bytes or ceiling are negative", i, c.Workload)
		}
		for _, s := range c.Samples {
			if !allPositive(s.LastDone) {
				return fmt.Errorf("case %d (%s): a copy took %v s", i, c.Workload, s.LastDone)
			}
		}
	}
	return nil
}

func allPositive(values ...float64) bool {
	for _, v := range values {
		if !(v > 0) {
			return false
		}
	}
	return true
}
