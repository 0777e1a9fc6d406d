package data

import (
	"fmt"
	"iter"
	"math/rand/v2"
)

// Workload describes the files of a shard.
type Workload struct {
	Name    string
	Purpose string // in one line
	Groups  []Group
}

// Group is a number of files of Min to Max bytes each, evenly distributed over
// directories.
type Group struct {
	Name     string // prefix of the names
	Dirs     int
	Files    int
	Min, Max int64
}

// File is a file of a workload.
type File struct {
	Dir  string // below the shard; "" is the shard itself
	Name string
	Size int64 // bytes
}

// The small files of a search index: their sizes in bytes, their number as one for so
// many bytes of the workload, and their number in a directory.
const (
	smallMin, smallMax = 1_000, 20_000
	bytesPerSmall      = 170 << 10
	filesPerDir        = 200
)

// Workloads returns the workloads; the largest one has size bytes.
func Workloads(size int64) []Workload {
	few := max(int(size/bytesPerSmall), 10)
	return []Workload{
		{"huge", "a few huge files, to measure bytes a second", []Group{{"segment", 0, 4, size / 4, size / 4}}},
		{"many", "many small files in directories, to measure files a second", []Group{smallFiles(few)}},
		{"mixed", "a search shard: some large files and many small ones", []Group{
			{"segment", 0, 3, size / 6, size / 6}, smallFiles(few / 3)}},
	}
}

func smallFiles(n int) Group {
	return Group{"part", max(n/filesPerDir, 1), n, smallMin, smallMax}
}

// EachFile yields the files of the workload with their numbers, directory by directory.
func (w Workload) EachFile(seed uint64) iter.Seq2[uint64, File] {
	return func(yield func(uint64, File) bool) {
		random := rand.New(rand.NewPCG(seed, 1))
		number := uint64(0)
		for _, g := range w.Groups {
			for n := range g.Files {
				number++
				f := File{Name: fmt.Sprintf("%s%07d", g.Name, n), Size: g.Min + random.Int64N(g.Max-g.Min+1)}
				if g.Dirs > 0 {
					f.Dir = fmt.Sprintf("%s%04d", g.Name, n*g.Dirs/g.Files)
				}
				if !yield(number, f) {
					return
				}
			}
		}
	}
}

// Total is the number and the size of all files of a shard.
type Total struct {
	Files  int64
	Bytes  int64 // sizes of the files
	Stored int64 // space that the files occupy
}

// fsBlock is the usual block size of a file system, in bytes: space is allocated in
// blocks.
const fsBlock = 4096

// AddUp returns the totals of all files.
func (w Workload) AddUp(seed uint64) (t Total) {
	for _, f := range w.EachFile(seed) {
		t.Files++
		t.Bytes += f.Size
		t.Stored += (f.Size + fsBlock - 1) / fsBlock * fsBlock
	}
	return t
}
