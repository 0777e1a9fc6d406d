package verify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/cespare/xxhash/v2"
	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/pool"
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/testkit"
	"shard_to_ssd/internal/tree"
)

// Small files are read at once: each gets its checksum, or its own error if it is missing
// or too short. None of their pages stay in the page cache.
func TestSumSmall(t *testing.T) {
	for _, fs := range testkit.FileSystemsOf(t, 400<<20) {
		t.Run(fs.Name, func(t *testing.T) {
			d, err := sys.OpenDir(fs.Dir)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			files, want := smallFiles(t, fs.Dir)
			workers, err := pool.New(1)
			if err != nil {
				t.Fatal(err)
			}
			defer workers.Close()
			device := DeviceReader{Exclusive: true}
			err = workers.Run(t.Context(), func(_ context.Context, emit func(pool.Task) error) error {
				return emit(func(ctx context.Context, w *pool.Worker) error {
					for range sys.BatchAfter { // the first files of a pool are read one by one
						w.Batch()
					}
					if w.Batch() == nil {
						t.Error("got no batch, so files are read one by one")
					}
					device.SumSmall(ctx, d, files, w)
					return nil
				})
			})
			if err != nil {
				t.Fatal(err)
			}
			for i, f := range files {
				switch w := want[i]; {
				case w.err != nil && !errors.Is(f.Err, w.err), w.err == nil && (f.Err != nil || f.Sum != w.sum):
					t.Errorf("%s of %d bytes: got %x, %v, want %x, %v", f.Name, f.Size, f.Sum, f.Err, w.sum, w.err)
				}
			}
			if mode := device.WeakestMode(); (mode == FromCache) != (fs.Name == "tmpfs") {
				t.Errorf("got mode %q", mode)
			}
			if fs.Name != "tmpfs" {
				noneCached(t, d, files)
			}
		})
	}
}

type expected struct {
	sum uint64
	err error
}

// smallFiles writes more files than can be read at once, with all kinds of lengths. It
// removes some of them and shortens others.
func smallFiles(t *testing.T, dir string) (files []tree.FileSum, want []expected) {
	t.Helper()
	r := rand.New(rand.NewPCG(1, 0))
	lengths := []int{0, 1, 511, 512, 4095, 4096, 4097, 100_000, 1 << 20, tree.BlockSize - 1, tree.BlockSize}
	for i := range 100 {
		n := lengths[r.IntN(len(lengths))]
		if i > 20 {
			n = r.IntN(20_000)
		}
		data := make([]byte, n)
		for k := range data {
			data[k] = byte(r.Uint32())
		}
		name, e := fmt.Sprint("file", i), expected{sum: xxhash.Sum64(data)}
		if i%17 == 5 && n > 0 {
			e.err, data = io.ErrUnexpectedEOF, data[:n-1]
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
		if i%17 == 6 {
			e.err = unix.ENOENT
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		files, want = append(files, tree.FileSum{Name: name, Size: int64(n)}), append(want, e)
	}
	unix.Sync()
	return files, want
}

func noneCached(t *testing.T, d *sys.File, files []tree.FileSum) {
	t.Helper()
	for _, file := range files {
		if file.Err != nil {
			continue
		}
		f, err := d.OpenAt(file.Name, unix.O_RDONLY, 0)
		if err != nil {
			continue
		}
		cached, err := f.CachedBytes(0, file.Size)
		if f.Close(); cached != 0 || err != nil {
			t.Errorf("%s: got %d bytes in the page cache, %v, want none", file.Name, cached, err)
		}
	}
}

// When the context ends, its cause is the error of each file that was not read.
func TestSumSmallStopsWithContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("stopped by the test")
	cancel(cause)
	files := []tree.FileSum{{Name: "a"}, {Name: "b"}}
	(&DeviceReader{}).SumSmall(ctx, nil, files, nil)
	for _, f := range files {
		if !errors.Is(f.Err, cause) {
			t.Errorf("%s: got error %v, want %v", f.Name, f.Err, cause)
		}
	}
}
