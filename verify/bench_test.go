package verify

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/tree"
)

// manyRecords returns the records of a directory of n files, each of one block.
func manyRecords(n int) []tree.Record {
	records := []tree.Record{{Kind: tree.Dir, Name: ".", Mode: 0o755}}
	for i := range n {
		records = append(records, tree.Record{Kind: tree.Regular, Name: fmt.Sprintf("segment-%06d.dat", i), Mode: 0o644,
			Mtime: sys.Time{Sec: 1_700_000_000, Nsec: 123_456_789}, Size: 10_000, Sum: uint64(i) * 0x9e3779b97f4a7c15})
	}
	return records
}

// BenchmarkManifest writes and reads a manifest of 10,000 files, and reports the time
// for an entry.
func BenchmarkManifest(b *testing.B) {
	const n = 10_000
	records := manyRecords(n)
	perEntry := func(b *testing.B) {
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/entry")
	}
	b.Run("write", func(b *testing.B) {
		state := openState(b)
		b.ReportAllocs()
		for b.Loop() {
			writeManifest(b, state, records)
		}
		perEntry(b)
	})
	b.Run("read", func(b *testing.B) {
		state := openState(b)
		writeManifest(b, state, records)
		b.ReportAllocs()
		for b.Loop() {
			m, err := OpenManifest(state)
			if err != nil {
				b.Fatal(err)
			}
			if err := m.Check(b.Context()); err != nil {
				b.Fatal(err)
			}
			m.Close()
		}
		perEntry(b)
	})
}

// BenchmarkReadBack reads the blocks of a file from the device and computes their checksums.
func BenchmarkReadBack(b *testing.B) {
	const blocks = 8
	dir := b.TempDir()
	f, err := os.Create(filepath.Join(dir, "file"))
	if err != nil {
		b.Fatal(err)
	}
	data := make([]byte, tree.BlockSize)
	for range blocks {
		if _, err := f.Write(data); err != nil {
			b.Fatal(err)
		}
	}
	if err := f.Sync(); err != nil {
		b.Fatal(err)
	}
	f.Close()
	d, err := sys.OpenDir(dir)
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	device := DeviceReader{Exclusive: true}
	r, err := device.Open(d, "file", blocks*tree.BlockSize)
	if err != nil {
		b.Fatal(err)
	}
	buf, err := sys.AllocBuffer(tree.BlockSize)
	if err != nil {
		b.Fatal(err)
	}
	defer sys.FreeBuffer(buf)
	b.SetBytes(tree.BlockSize)
	b.ReportAllocs()
	for i := int64(0); b.Loop(); i++ {
		if _, err := r.Sum(i%blocks, buf); err != nil {
			b.Fatal(err)
		}
	}
	if _, err := r.Close(); err != nil {
		b.Fatal(err)
	}
	if mode := device.WeakestMode(); mode != FromDevice {
		b.Logf("read in mode %s: to measure a device, set TMPDIR to a file system with direct I/O", mode)
	}
}
