package verify

import "strings"

// entryPath returns the path of an entry below the shard, as messages and differences
// show it; "." is the shard itself.
func entryPath(dir, name string) string {
	if name == "." {
		name = ""
	}
	joined := strings.Trim(dir+"/"+name, "/")
	if joined == "" {
		return "."
	}
	return joined
}

// splitPath splits a path below a directory into the directory of the entry, "" for the
// top, and the entry's name.
func splitPath(path string) (dir, name string) {
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[:i], path[i+1:]
	}
	return "", path
}
