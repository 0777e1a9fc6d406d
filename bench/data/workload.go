package data

import (
	"fmt"
	"iter"
	"math/rand/v2"
)

// Workload is a shard as data.
type Workload struct {
	Name   string
	For    string // what it is for, a line
	Groups []Group
}

// Group is a number of files with sizes from Min to Max bytes, spread over directories.
type Group struct {
	Name     string // of the directories, or with none of them of the files
	Dirs     int
	Files    int
	Min, Max int64
}

// File is one of a workload.
type File struct {
	Dir  string // below the shard, "" for the shard itself
	Name string
	Size int64 // bytes
}

// Sizes of the files of a search index, in bytes: of the many small ones, and what the
// number of them is made of, for a workload of so many bytes.
const (
	smallMin, smallMax = 1_000, 20_000
	bytesPerSmall      = 170 << 10
	filesPerDir        = 200
)

// Workloads are those that size, the bytes of the largest, makes.
func Workloads(size int64) []Workload {
	few := max(int(size/bytesPerSmall), 10)
	return []Workload{
		{"huge", "a few huge files: how fast bytes move", []Group{{"segment", 0, 4, size / 4, size / 4}}},
		{"many", "many small files in directories: how fast files are made", []Group{smallFiles(few)}},
		{"mixed", "a search shard: some large files and many small ones", []Group{
			{"segment", 0, 3, size / 6, size / 6}, smallFiles(few / 3)}},
	}
}

func smallFiles(n int) Group {
	return Group{"part", max(n/filesPerDir, 1), n, smallMin, smallMax}
}

// Files are the files of the workload with their numbers, a directory after the other.
func (w Workload) Files(seed uint64) iter.Seq2[uint64, File] {
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

// Total is what a shard is in all.
type Total struct {
	Files  int64
	Bytes  int64 // that files hold
	Stored int64 // that they take
}

// fsBlock is what space is given out in: the usual block of a file system, bytes.
const fsBlock = 4096

// Total adds up all files.
func (w Workload) Total(seed uint64) (t Total) {
	for _, f := range w.Files(seed) {
		t.Files++
		t.Bytes += f.Size
		t.Stored += (f.Size + fsBlock - 1) / fsBlock * fsBlock
	}
	return t
}
