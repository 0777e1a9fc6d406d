package shardtossd

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"shard_to_ssd/internal/tree"
	"shard_to_ssd/locking"
)

// maxName is the longest name of a shard, in bytes: ".lock" must fit behind it.
const maxName = 255 - len(".lock")

// kindError is an error of one of the kinds that callers tell apart, without
// saying it twice.
type kindError struct{ kind, err error }

func (e *kindError) Error() string   { return e.err.Error() }
func (e *kindError) Unwrap() []error { return []error{e.kind, e.err} }

func usagef(format string, args ...any) error {
	return &kindError{ErrUsage, fmt.Errorf(format, args...)}
}

// shardName is the name under which the shard at path is published.
func shardName(path string) (string, error) {
	if path == "" {
		return "", usagef("no shard is named")
	}
	trimmed := strings.TrimRight(path, "/")
	name := trimmed[strings.LastIndexByte(trimmed, '/')+1:]
	if err := checkName(name); err != nil {
		return "", usagef("%q does not name a shard: %w", path, err)
	}
	return name, nil
}

func checkName(name string) error {
	switch {
	case name == stateRootName:
		return errors.New("the name belongs to this tool")
	case strings.ContainsAny(name, "\n\r"):
		return errors.New("its last component holds a newline")
	case len(name) > maxName:
		return fmt.Errorf("a name of %d bytes, at most %d leave room for the user file", len(name), maxName)
	}
	return tree.ValidName(name)
}

// checkID says whether an id can be a line of a user file.
func checkID(id string) error {
	if err := locking.ValidID(id); err != nil {
		return usagef("id %q: %w", id, err)
	}
	return nil
}

// inside reports whether path is dir or below it; both are absolute and real.
func inside(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}
