// Command tenmillion writes a manifest of ten million entries into a state dir, bound to a
// directory. It prints the number of entries and its peak memory in KiB. Half of the
// entries are files of one directory, the others are in directories of a hundred files.
package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/tree"
	"shard_to_ssd/verify"
)

const (
	files       = 5_000_000
	directories = 50_000
	inEach      = 100
	entries     = files + directories*(inEach+1)
)

func main() {
	if err := writeManifest(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	status, _ := os.ReadFile("/proc/self/status")
	_, after, _ := strings.Cut(string(status), "VmHWM:")
	kib := 0
	fmt.Sscan(after, &kib)
	fmt.Println(entries, kib)
}

func writeManifest(stateDir, root string) error {
	state, err := sys.OpenDir(stateDir)
	if err != nil {
		return err
	}
	at, err := sys.StatPath(root)
	if err != nil {
		return err
	}
	w, err := verify.NewManifestWriter(state, &verify.Header{Tool: "test", Shard: "shard", Root: verify.RootIdentityOf(&at), Source: "/source",
		LockDir: "/locks", Time: time.Unix(1e9, 0), Files: files + directories*inEach, Entries: entries})
	if err != nil {
		return err
	}
	put := func(r tree.Record) {
		r.Mode, r.Mtime = 0o644, sys.Time{Sec: 1_700_000_000, Nsec: 1}
		if written := w.WriteRecord(&r, 0xef46db3751d8e999); err == nil {
			err = written
		}
	}
	put(tree.Record{Kind: tree.Dir, Name: "."})
	for i := range directories {
		put(tree.Record{Kind: tree.Subdir, Name: directoryName(i)})
	}
	for i := range files {
		put(tree.Record{Kind: tree.Regular, Name: fmt.Sprintf("file%09d", i)})
	}
	for i := range directories {
		put(tree.Record{Kind: tree.Dir, Name: directoryName(i), Path: directoryName(i), Depth: 1})
		for k := range inEach {
			put(tree.Record{Kind: tree.Regular, Path: directoryName(i), Name: fmt.Sprintf("file%09d", k)})
		}
	}
	if err != nil {
		return err
	}
	for _, step := range []func() error{w.Finish, w.Close, w.Commit} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func directoryName(i int) string { return fmt.Sprintf("dir%07d", i) }
