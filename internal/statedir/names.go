package statedir

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/tree"
)

// MaxName is the longest name of a shard, in bytes: the user file's suffix
// ".lock" must fit behind it in NAME_MAX.
const MaxName = 255 - len(".lock")

// CheckName returns an error if no shard can have this name.
func CheckName(name string) error {
	switch {
	case name == RootName:
		return errors.New("this tool keeps its own files under that name")
	case strings.ContainsAny(name, "\n\r"):
		return errors.New("its last component contains a newline")
	case len(name) > MaxName:
		return fmt.Errorf("the name has %d bytes, at most %d leave room for the user file", len(name), MaxName)
	}
	return tree.CheckName(name)
}

// ListShards returns the names of the shards that have a state dir in an SSD dir.
func ListShards(ssd *sys.File) ([]string, error) {
	root, err := ssd.OpenDirAt(RootName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer root.Close()
	names, err := root.ListNames(make([]byte, 64<<10))
	var shards []string
	for _, name := range names {
		if CheckName(name) == nil {
			shards = append(shards, name)
		}
	}
	return shards, err
}

// ShardName returns the name under which the shard at a path is published: its last
// component.
func ShardName(path string) (string, error) {
	trimmed := strings.TrimRight(path, "/")
	name := trimmed[strings.LastIndexByte(trimmed, '/')+1:]
	if err := CheckName(name); err != nil {
		return "", fmt.Errorf("%q does not name a shard: %w", path, err)
	}
	return name, nil
}
