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

// ErrVersion is the cause when a file is of a version that this program does not know.
var ErrVersion = errors.New("unknown version of a result")

// largest is the most that is read as a result, in bytes. A day of points, two a second,
// is some 20 MB.
const largest = 1 << 30

// Save writes a result as a file, whole or not at all: what was there before stays
// until the new one is on stable storage.
func Save(path string, r *Result) error {
	text, err := encode(r)
	if err != nil {
		return fmt.Errorf("write result %s: %w", path, err)
	}
	return WriteWhole(path, text)
}

// NoDrive is an error if path is a drive, or a link to one: nothing is written over what
// is on it, whatever name was given for a file.
func NoDrive(path string) error {
	is, err := os.Stat(path)
	if err == nil && is.Mode()&(os.ModeDevice|os.ModeCharDevice) == os.ModeDevice {
		return errors.New("it is a block device, and never written to")
	}
	return nil
}

// WriteWhole puts text into a file that appears complete, or not at all. What is there
// and no regular file, such as a pipe or /dev/null, is written to, and not replaced; a
// block device is refused.
func WriteWhole(path string, text []byte) error {
	if err := NoDrive(path); err != nil {
		return &os.PathError{Op: "write", Path: path, Err: err}
	}
	if is, err := os.Lstat(path); err == nil && !is.Mode().IsRegular() {
		return writeInto(path, text)
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	err = errs.Join(fill(f, text), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errs.Join(err, os.Remove(f.Name()))
	}
	return syncDir(filepath.Dir(path))
}

func writeInto(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errs.Join(err, f.Close())
}

func fill(f *os.File, text []byte) error {
	if _, err := f.Write(text); err != nil {
		return err
	}
	// CreateTemp is for secrets. A result is to be shown.
	if err := f.Chmod(0o644); err != nil {
		return err
	}
	return f.Sync()
}

// syncDir makes names in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errs.Join(d.Sync(), d.Close())
}

// Encode writes the text of the file that Save writes.
func Encode(to io.Writer, r *Result) error {
	text, err := encode(r)
	if err != nil {
		return err
	}
	_, err = to.Write(text)
	return err
}

func encode(r *Result) ([]byte, error) {
	if r.Version != ResultVersion {
		return nil, fmt.Errorf("%w: %d, wanted %d", ErrVersion, r.Version, ResultVersion)
	}
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	err := e.Encode(r)
	return text.Bytes(), err
}

// Load reads a result that Save has written. A file of another version, one that is
// cut off, and one with anything in it that is not of a result, is refused.
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

// Decode is Load of what is read.
func Decode(from io.Reader) (*Result, error) {
	text, err := io.ReadAll(io.LimitReader(from, largest+1))
	if err != nil {
		return nil, err
	}
	if len(text) > largest {
		return nil, fmt.Errorf("larger than %d bytes", largest)
	}
	if err := wantVersion(text); err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	var r Result
	if err := d.Decode(&r); err != nil {
		return nil, fmt.Errorf("not a result: %w", err)
	}
	return &r, check(&r)
}

// wantVersion comes before all else: fields of a later version are unknown, and to say
// that of a field would send a reader the wrong way.
func wantVersion(text []byte) error {
	var head struct {
		Version *int `json:"version"`
	}
	// Unmarshal also refuses what follows the value.
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
		return fmt.Errorf("%w: %d; this program knows %d", ErrVersion, *head.Version, ResultVersion)
	}
	return nil
}

// check refuses numbers that nothing measures, so that what is made of a result needs
// not look again.
func check(r *Result) error {
	if r.Started.IsZero() {
		return errors.New("not a result: it does not say when it began")
	}
	for i, c := range r.Ceilings {
		if !positive(c.Rates...) {
			return fmt.Errorf("ceiling %d: a rate that is not over 0", i)
		}
	}
	for i, c := range r.Cases {
		if c.Bytes < 0 || c.Ceiling < 0 {
			return fmt.Errorf("case %d (%s): less than nothing was copied", i, c.Workload)
		}
		for _, s := range c.Samples {
			if !positive(s.LastDone) {
				return fmt.Errorf("case %d (%s): a copy that took %v s", i, c.Workload, s.LastDone)
			}
		}
	}
	return nil
}

func positive(values ...float64) bool {
	for _, v := range values {
		if !(v > 0) {
			return false
		}
	}
	return true
}
