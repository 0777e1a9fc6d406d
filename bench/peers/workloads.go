package main

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"iter"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// workload is a shard as data. What it is made of follows from it alone, the same
// on every machine.
type workload struct {
	name    string // unique
	batches []batch
}

// batch is a number of files, spread over directories, with sizes from min to max.
type batch struct {
	name     string // of the directories, or with none of them of the files
	dirs     int
	files    int
	min, max int64
	stored   int64 // one of so many bytes is data, the others are holes; 0: all are data
}

// sparseUnit is how far the pieces of data in a sparse file are apart.
const sparseUnit = 64 * mib

// file is a regular file of a workload.
type file struct {
	path string // below the shard
	size int64
}

// all are the files of a batch, a directory after the other.
func (b batch) all() iter.Seq[file] {
	return func(yield func(file) bool) {
		random := seeded(b.name)
		for n := range b.files {
			path := fmt.Sprintf("%s%07d", b.name, n)
			if b.dirs > 0 {
				path = fmt.Sprintf("%s%04d/file%07d", b.name, n*b.dirs/b.files, n)
			}
			if !yield(file{path, b.min + random.Int64N(b.max-b.min+1)}) {
				return
			}
		}
	}
}

func seeded(name string) *rand.Rand {
	h := fnv.New64a()
	h.Write([]byte(name))
	return rand.New(rand.NewPCG(h.Sum64(), 1))
}

func (w workload) files() (n int) {
	for _, b := range w.batches {
		n += b.files
	}
	return n
}

// bytes are the sum of the files' sizes.
func (w workload) bytes() (n int64) {
	for _, b := range w.batches {
		for f := range b.all() {
			n += f.size
		}
	}
	return n
}

// space is what the workload takes on a file system with blocks of 4 KiB, about.
func (w workload) space() (n int64) {
	for _, b := range w.batches {
		var data int64
		for f := range b.all() {
			data += (f.size + 4*kib - 1) &^ (4*kib - 1)
		}
		n += data/max(b.stored, 1) + int64(b.files)*512 + int64(b.dirs)*16*kib
	}
	return n
}

// create writes the workload into a new directory.
func (w workload) create(dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	buf := make([]byte, mib)
	for _, b := range w.batches {
		random, last := seeded(b.name+" contents"), ""
		for f := range b.all() {
			path := filepath.Join(dir, f.path)
			if parent := filepath.Dir(path); parent != last {
				if err := os.MkdirAll(parent, 0o755); err != nil {
					return err
				}
				last = parent
			}
			if err := b.write(path, f.size, random, buf); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b batch) write(path string, size int64, random *rand.Rand, buf []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	if b.stored > 1 {
		if err := f.Truncate(size); err != nil {
			return err
		}
	}
	for off := int64(0); off < size; {
		if b.stored > 1 && off%sparseUnit >= sparseUnit/b.stored {
			off += sparseUnit - off%sparseUnit
			continue
		}
		n := min(size-off, int64(len(buf)))
		noise(buf[:n], random)
		if _, err := f.WriteAt(buf[:n], off); err != nil {
			return err
		}
		off += n
	}
	return f.Close()
}

// noise fills the buffer with what no disk can compress, at some GB/s.
func noise(buf []byte, random *rand.Rand) {
	for len(buf) >= 8 {
		binary.LittleEndian.PutUint64(buf, random.Uint64())
		buf = buf[8:]
	}
	for i := range buf {
		buf[i] = byte(random.Uint64())
	}
}

// workloads are those of the rows.
type workloads struct {
	set, one, small, mixed workload
	slowOne, slowMany      workload
	sparse, many           workload
	moreFiles, moreBytes   []workload
	few                    workload // for what takes milliseconds
}

func workloadsOf(s sizes) workloads {
	w := workloads{
		set:      workload{fmt.Sprintf("%d × %s", s.Segments, bytesText(s.Segment)), []batch{same("segment", s.Segments, s.Segment)}},
		one:      workload{fmt.Sprintf("1 × %s", bytesText(s.One)), []batch{same("segment", 1, s.One)}},
		small:    workload{fmt.Sprintf("%s files of 1 to 20 kB", thousands(s.Small)), []batch{smallFiles("small", s.SmallDirs, s.Small)}},
		slowOne:  workload{"slow, 1 × " + bytesText(s.Slow), []batch{same("slow", 1, s.Slow)}},
		slowMany: workload{fmt.Sprintf("slow, %s files of 2 MiB", thousands(s.SlowFiles)), []batch{same("slow", s.SlowFiles, 2*mib)}},
		many:     workload{thousands(s.Many) + " files of 1 kB", []batch{oneKB("many", s.Many)}},
		few:      workload{"10 files of 1 kB", []batch{oneKB("few", 10)}},
	}
	w.mixed = workload{
		fmt.Sprintf("%d × %s and %s small files", s.MixedSegments, bytesText(s.MixedSegment), thousands(s.MixedSmall)),
		[]batch{same("segment", s.MixedSegments, s.MixedSegment), smallFiles("small", max(s.MixedSmall/200, 1), s.MixedSmall)},
	}
	huge := same("huge", 1, s.Sparse)
	huge.stored = 4
	w.sparse = workload{"1 × " + bytesText(s.Sparse) + ", sparse", []batch{huge}}
	for i := range s.GrowFiles {
		w.moreFiles = append(w.moreFiles, workload{thousands(s.GrowFiles[i]) + " files of 1 kB", []batch{oneKB("more", s.GrowFiles[i])}})
		more := same("more", 1, s.GrowBytes[i])
		more.stored = s.GrowStored
		name := "1 × " + bytesText(s.GrowBytes[i])
		if s.GrowStored > 1 {
			name += fmt.Sprintf(", 1/%d of it data", s.GrowStored)
		}
		w.moreBytes = append(w.moreBytes, workload{name, []batch{more}})
	}
	return w
}

func same(name string, files int, size int64) batch {
	return batch{name: name, files: files, min: size, max: size}
}

func smallFiles(name string, dirs, files int) batch {
	return batch{name: name, dirs: dirs, files: files, min: 1_000, max: 20_000}
}

func oneKB(name string, files int) batch {
	return batch{name: name, dirs: max(files/200, 1), files: files, min: 1_000, max: 1_000}
}

func bytesText(n int64) string {
	switch {
	case n%gib == 0:
		return fmt.Sprintf("%d GiB", n/gib)
	case n >= gib:
		return fmt.Sprintf("%.1f GiB", float64(n)/float64(gib))
	}
	return fmt.Sprintf("%d MiB", n/mib)
}

func thousands(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%s,%03d", thousands(n/1000), n%1000)
}
