package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// sources are the workloads that are made and mounted, by name. A workload is made
// once, and kept as long as turns need it.
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

// get is the directory of the shard, on a file system that nothing can change.
func (s *sources) get(ctx context.Context, w workload) (string, error) {
	made, ok := s.live[w.name]
	if !ok {
		s.log("making %s", w.name)
		var err error
		if made, err = s.create(ctx, w); err != nil {
			return "", fmt.Errorf("make %q: %w", w.name, err)
		}
		s.live[w.name] = made
	}
	return filepath.Join(made.mount, "shard"), nil
}

func (s *sources) create(ctx context.Context, w workload) (made source, err error) {
	mount, err := os.MkdirTemp(s.dir, "source")
	if err != nil {
		return source{}, err
	}
	d, err := newDisk(ctx, s.dir, sourceDisk(w))
	if err != nil {
		return source{}, err
	}
	defer func() {
		if err != nil {
			_ = d.close()
		}
	}()
	k := kindOf("ext4", s.sizes)
	k.mkfs = append(k.mkfs, "-O", "^has_journal", "-m", "0") // it is written once, and then only read
	k.mkfs = without(k.mkfs, "-J")
	if err := d.format(ctx, k, w.files()); err != nil {
		return source{}, err
	}
	if err := d.mount(mount, k.name, k.mount, 0); err != nil {
		return source{}, err
	}
	if err := w.create(filepath.Join(mount, "shard")); err != nil {
		_ = unmount(mount)
		return source{}, err
	}
	if err := unmount(mount); err != nil {
		return source{}, err
	}
	return source{d, mount}, d.mount(mount, k.name, "", unix.MS_RDONLY)
}

// without drops an option and its value.
func without(args []string, option string) (rest []string) {
	for i := 0; i < len(args); i++ {
		if args[i] == option {
			i++
			continue
		}
		rest = append(rest, args[i])
	}
	return rest
}

// keep drops all but these.
func (s *sources) keep(wanted []workload) error {
	names := map[string]bool{}
	for _, w := range wanted {
		names[w.name] = true
	}
	for name, made := range s.live {
		if names[name] {
			continue
		}
		if err := unmount(made.mount); err != nil {
			return err
		}
		if err := made.disk.close(); err != nil {
			return err
		}
		delete(s.live, name)
	}
	return nil
}
