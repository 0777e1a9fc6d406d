package copier

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/cespare/xxhash/v2"

	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/tree"
)

// Benchmarks of the hot loops, for benchstat:
//
//	go test ./copier ./verify -run '^$' -bench . -benchmem -count 10 | tee new.txt
//	benchstat old.txt new.txt

// BenchmarkSum computes the XXH64 of a block that is not in the processor's cache.
func BenchmarkSum(b *testing.B) {
	const blocks = 16
	buf, err := sys.AllocBuffer(blocks * tree.BlockSize)
	if err != nil {
		b.Fatal(err)
	}
	defer sys.FreeBuffer(buf)
	b.SetBytes(tree.BlockSize)
	for i := 0; b.Loop(); i++ {
		at := i % blocks * tree.BlockSize
		xxhash.Sum64(buf[at : at+tree.BlockSize])
	}
}

// BenchmarkWalk walks 20 directories of 250 files and reports the time per entry.
func BenchmarkWalk(b *testing.B) {
	const dirs, files = 20, 250
	root := b.TempDir()
	for d := range dirs {
		dir := filepath.Join(root, "shard", fmt.Sprint("directory", d))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			b.Fatal(err)
		}
		for f := range files {
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprint("segment-", f, ".dat")), nil, 0o644); err != nil {
				b.Fatal(err)
			}
		}
	}
	src, err := OpenSource(filepath.Join(root, "shard"))
	if err != nil {
		b.Fatal(err)
	}
	defer src.Close()
	state, err := sys.OpenDir(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer state.Close()
	b.ReportAllocs()
	for b.Loop() {
		plan, err := MakePlan(b.Context(), src, state)
		if err != nil {
			b.Fatal(err)
		}
		if err := plan.Close(); err != nil || plan.Files != dirs*files {
			b.Fatalf("planned %d files, want %d; Close: %v", plan.Files, dirs*files, err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*dirs*files), "ns/entry")
}
