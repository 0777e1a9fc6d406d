package peers

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// sources are the workloads that exist on mounted disks, by name. A workload is made
// once, and kept while later turns need it.
type sources struct {
	dir   string // images and mount points
	sizes sizes
	log   func(format string, args ...any)
	live  map[string]source
}

type source struct {
	disk  *disk
	mount string
}

// shardOf returns the directory of the workload, on a read-only file system.
func (s *sources) shardOf(ctx context.Context, w workload) (string, error) {
	made, ok := s.live[w.name]
	if !ok {
		s.log("making %s", w.name)
		var err error
		if made, err = s.makeSource(ctx, w); err != nil {
			return "", fmt.Errorf("make %q: %w", w.name, err)
		}
		s.live[w.name] = made
	}
	return filepath.Join(made.mount, "shard"), nil
}

func (s *sources) makeSource(ctx context.Context, w workload) (made source, err error) {
	mount, err := os.MkdirTemp(s.dir, "source")
	if err != nil {
		return source{}, err
	}
	d, err := newDisk(ctx, s.dir, sourceDiskSize(w))
	if err != nil {
		return source{}, err
	}
	defer func() {
		if err != nil {
			_ = d.detach() // the first error counts
		}
	}()
	f := fileSystemOf("ext4", s.sizes)
	f.mkfs = append(f.mkfs, "-O", "^has_journal", "-m", "0") // it is written once, then only read
	f.mkfs = withoutOption(f.mkfs, "-J")
	if err := d.makeFileSystem(ctx, f, w.fileCount()); err != nil {
		return source{}, err
	}
	if err := d.mountAt(mount, f.name, f.mount, 0); err != nil {
		return source{}, err
	}
	if err := w.createShard(filepath.Join(mount, "shard")); err != nil {
		_ = unmountBusy(mount) // the first error counts
		return source{}, err
	}
	if err := unmountBusy(mount); err != nil {
		return source{}, err
	}
	return source{d, mount}, d.mountAt(mount, f.name, "", unix.MS_RDONLY)
}

// withoutOption returns the arguments without an option and its value.
func withoutOption(args []string, option string) (rest []string) {
	for i := 0; i < len(args); i++ {
		if args[i] == option {
			i++
			continue
		}
		rest = append(rest, args[i])
	}
	return rest
}

// keepOnly unmounts and frees all sources except these.
func (s *sources) keepOnly(wanted []workload) error {
	names := map[string]bool{}
	for _, w := range wanted {
		names[w.name] = true
	}
	for name, made := range s.live {
		if names[name] {
			continue
		}
		if err := unmountBusy(made.mount); err != nil {
			return err
		}
		if err := made.disk.detach(); err != nil {
			return err
		}
		delete(s.live, name)
	}
	return nil
}
