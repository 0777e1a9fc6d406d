package peers

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"iter"
	"math/rand/v2"
	"os"
	"path/filepath"

	"shard_to_ssd/internal/errs"
)

// workload describes the data of a shard. The data is the same on every machine.
type workload struct {
	name    string // unique
	batches []batch
}

// batch is a number of files, spread over directories, with sizes from min to max.
type batch struct {
	name     string // of the directories; of the files, if there are no directories
	dirs     int
	files    int
	min, max int64
	stored   int64 // one in so many bytes is data, the others are holes; 0: all are data
}

// sparseUnit is the distance between the pieces of data in a sparse file.
const sparseUnit = 64 * mib

// file is a regular file of a workload.
type file struct {
	path string // below the shard
	size int64
}

// allFiles iterates over the files of a batch, one directory after the other.
func (b batch) allFiles() iter.Seq[file] {
	return func(yield func(file) bool) {
		random := seededRandom(b.name)
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

func seededRandom(name string) *rand.Rand {
	h := fnv.New64a()
	h.Write([]byte(name))
	return rand.New(rand.NewPCG(h.Sum64(), 1))
}

func (w workload) fileCount() (n int) {
	for _, b := range w.batches {
		n += b.files
	}
	return n
}

// totalBytes returns the sum of the files' sizes.
func (w workload) totalBytes() (n int64) {
	for _, b := range w.batches {
		for f := range b.allFiles() {
			n += f.size
		}
	}
	return n
}

// diskSpace returns the approximate space on a file system with blocks of 4 KiB.
func (w workload) diskSpace() (n int64) {
	for _, b := range w.batches {
		var data int64
		for f := range b.allFiles() {
			data += (f.size + 4*kib - 1) &^ (4*kib - 1)
		}
		n += data/max(b.stored, 1) + int64(b.files)*512 + int64(b.dirs)*16*kib
	}
	return n
}

// createShard writes the workload into a new directory.
func (w workload) createShard(dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	buf := make([]byte, mib)
	for _, b := range w.batches {
		random, last := seededRandom(b.name+" contents"), ""
		for f := range b.allFiles() {
			path := filepath.Join(dir, f.path)
			if parent := filepath.Dir(path); parent != last {
				if err := os.MkdirAll(parent, 0o755); err != nil {
					return err
				}
				last = parent
			}
			if err := b.createFile(path, f.size, random, buf); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b batch) createFile(path string, size int64, random *rand.Rand, buf []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	return errs.Join(b.writeContents(f, size, random, buf), f.Close())
}

func (b batch) writeContents(f *os.File, size int64, random *rand.Rand, buf []byte) error {
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
		fillNoise(buf[:n], random)
		if _, err := f.WriteAt(buf[:n], off); err != nil {
			return err
		}
		off += n
	}
	return nil
}

// fillNoise fills the buffer with data that no disk can compress, at some GB/s.
func fillNoise(buf []byte, random *rand.Rand) {
	for len(buf) >= 8 {
		binary.LittleEndian.PutUint64(buf, random.Uint64())
		buf = buf[8:]
	}
	for i := range buf {
		buf[i] = byte(random.Uint64())
	}
}

// workloads has the workloads of all rows.
type workloads struct {
	set, one, small, mixed workload
	slowOne, slowMany      workload
	sparse, many           workload
	moreFiles, moreBytes   []workload
	few                    workload // for calls that take milliseconds
}

func workloadsOf(s sizes) workloads {
	w := workloads{
		set:      workload{fmt.Sprintf("%d × %s", s.Segments, formatBytes(s.Segment)), []batch{equalFiles("segment", s.Segments, s.Segment)}},
		one:      workload{fmt.Sprintf("1 × %s", formatBytes(s.One)), []batch{equalFiles("segment", 1, s.One)}},
		small:    workload{fmt.Sprintf("%s files of 1 to 20 kB", formatThousands(s.Small)), []batch{smallFiles("small", s.SmallDirs, s.Small)}},
		slowOne:  workload{"slow, 1 × " + formatBytes(s.Slow), []batch{equalFiles("slow", 1, s.Slow)}},
		slowMany: workload{fmt.Sprintf("slow, %s files of 2 MiB", formatThousands(s.SlowFiles)), []batch{equalFiles("slow", s.SlowFiles, 2*mib)}},
		many:     workload{formatThousands(s.Many) + " files of 1 kB", []batch{tinyFiles("many", s.Many)}},
		few:      workload{"10 files of 1 kB", []batch{tinyFiles("few", 10)}},
	}
	w.mixed = workload{
		fmt.Sprintf("%d × %s and %s small files", s.MixedSegments, formatBytes(s.MixedSegment), formatThousands(s.MixedSmall)),
		[]batch{equalFiles("segment", s.MixedSegments, s.MixedSegment), smallFiles("small", max(s.MixedSmall/200, 1), s.MixedSmall)},
	}
	huge := equalFiles("huge", 1, s.Sparse)
	huge.stored = 4
	w.sparse = workload{"1 × " + formatBytes(s.Sparse) + ", sparse", []batch{huge}}
	for i := range s.GrowFiles {
		w.moreFiles = append(w.moreFiles, workload{formatThousands(s.GrowFiles[i]) + " files of 1 kB", []batch{tinyFiles("more", s.GrowFiles[i])}})
		more := equalFiles("more", 1, s.GrowBytes[i])
		more.stored = s.GrowStored
		name := "1 × " + formatBytes(s.GrowBytes[i])
		if s.GrowStored > 1 {
			name += fmt.Sprintf(", 1/%d of it data", s.GrowStored)
		}
		w.moreBytes = append(w.moreBytes, workload{name, []batch{more}})
	}
	return w
}

func equalFiles(name string, files int, size int64) batch {
	return batch{name: name, files: files, min: size, max: size}
}

func smallFiles(name string, dirs, files int) batch {
	return batch{name: name, dirs: dirs, files: files, min: 1_000, max: 20_000}
}

func tinyFiles(name string, files int) batch {
	return batch{name: name, dirs: max(files/200, 1), files: files, min: 1_000, max: 1_000}
}

// formatBytes formats a size in whole units, as names of workloads have it: "1 GiB".
func formatBytes(n int64) string {
	switch {
	case n%gib == 0:
		return fmt.Sprintf("%d GiB", n/gib)
	case n >= gib:
		return fmt.Sprintf("%.1f GiB", float64(n)/float64(gib))
	}
	return fmt.Sprintf("%d MiB", n/mib)
}

func formatThousands(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%s,%03d", formatThousands(n/1000), n%1000)
}
