package peers

import (
	"fmt"
	"strconv"
)

const (
	kib = int64(1) << 10
	mib = int64(1) << 20
	gib = int64(1) << 30
)

// sizes are the sizes of all workloads. Bytes are the sizes of files; a sparse file needs
// less space than its size.
type sizes struct {
	Name    string
	Samples int // of each lane, except in rows with a number of their own
	Calls   int // samples of calls that take milliseconds

	Segments             int   // of several large files
	Segment, One         int64 // bytes of each segment, and of one large file
	Small, SmallDirs     int
	MixedSegments        int
	MixedSegment         int64
	MixedSmall           int
	Slow                 int64 // bytes in the slow source
	SlowFiles            int
	Sparse               int64 // bytes of the file for the memory of large files
	Many                 int   // files for the memory of many files
	GrowFiles            [3]int
	GrowBytes            [3]int64
	GrowStored           int64 // one in so many bytes is data, the others are holes
	Reading, ReadMiB     int   // seconds of reading without a copy; size of the file that is read
	JournalMiB, SlackMiB int64 // of the SSD's ext4; space on the SSD besides the copy
	Reduced              bool  // smaller than the sizes that the targets are for
}

func fullSize() sizes {
	return sizes{
		Name: "full", Samples: 5, Calls: 100,
		Segments: 4, Segment: gib, One: 4 * gib,
		Small: 60_000, SmallDirs: 300,
		MixedSegments: 4, MixedSegment: 300 << 20, MixedSmall: 8_000,
		Slow: 4 * gib, SlowFiles: 2_000,
		Sparse: 4 * gib, Many: 1_000_000,
		GrowFiles: [3]int{10_000, 100_000, 1_000_000}, GrowBytes: [3]int64{gib, 8 * gib, 64 * gib}, GrowStored: 4,
		Reading: 10, ReadMiB: 512, JournalMiB: 256, SlackMiB: 1024,
	}
}

func standardSize() sizes {
	return sizes{
		Name: "standard", Samples: 5, Calls: 100,
		Segments: 4, Segment: 512 * mib, One: 2 * gib,
		Small: 30_000, SmallDirs: 150,
		MixedSegments: 3, MixedSegment: 300 << 20, MixedSmall: 6_000,
		Slow: gib, SlowFiles: 500,
		Sparse: 4 * gib, Many: 200_000,
		GrowFiles: [3]int{10_000, 40_000, 160_000}, GrowBytes: [3]int64{gib, 2 * gib, 4 * gib}, GrowStored: 1,
		Reading: 5, ReadMiB: 512, JournalMiB: 256, SlackMiB: 1024, Reduced: true,
	}
}

func quickSize() sizes {
	return sizes{
		Name: "quick", Samples: 3, Calls: 50,
		Segments: 4, Segment: 96 * mib, One: 384 * mib,
		Small: 6_000, SmallDirs: 30,
		MixedSegments: 2, MixedSegment: 100 * mib, MixedSmall: 2_000,
		Slow: 300 * mib, SlowFiles: 150,
		Sparse: 4 * gib, Many: 20_000,
		GrowFiles: [3]int{2_500, 10_000, 40_000}, GrowBytes: [3]int64{256 * mib, 512 * mib, gib}, GrowStored: 1,
		Reading: 5, ReadMiB: 512, JournalMiB: 256, SlackMiB: 1024, Reduced: true,
	}
}

// tinySize is for tests of this package. Its numbers are meaningless.
func tinySize() sizes {
	return sizes{
		Name: "tiny", Samples: 1, Calls: 3,
		Segments: 4, Segment: 4 * mib, One: 12 * mib,
		Small: 200, SmallDirs: 4,
		MixedSegments: 2, MixedSegment: 5 * mib, MixedSmall: 50,
		Slow: 20 * mib, SlowFiles: 10,
		Sparse: 256 * mib, Many: 500,
		GrowFiles: [3]int{50, 100, 200}, GrowBytes: [3]int64{4 * mib, 8 * mib, 16 * mib}, GrowStored: 1,
		Reading: 1, ReadMiB: 16, JournalMiB: 16, SlackMiB: 400, Reduced: true,
	}
}

// parseSize accepts a name, or a factor of the full size such as 0.25.
func parseSize(name string) (sizes, error) {
	for _, s := range []sizes{fullSize(), standardSize(), quickSize(), tinySize()} {
		if s.Name == name {
			return s, nil
		}
	}
	factor, err := strconv.ParseFloat(name, 64)
	if err != nil || !(factor >= 0.001 && factor <= 100) {
		return sizes{}, fmt.Errorf("got size %q, want tiny, quick, standard, full, or a factor of full from 0.001 to 100", name)
	}
	return fullSize().scaledBy(name, factor), nil
}

func (s sizes) scaledBy(name string, factor float64) sizes {
	// fio moves whole blocks only.
	bytes := func(n int64) int64 { return roundUp(int64(float64(n)*factor), 4*mib) }
	count := func(n int) int { return max(int(float64(n)*factor), 10) }
	s.Name, s.Reduced = name, factor < 1
	s.Segment, s.One, s.MixedSegment = bytes(s.Segment), bytes(s.One), bytes(s.MixedSegment)
	s.Small, s.SmallDirs, s.MixedSmall = count(s.Small), count(s.SmallDirs), count(s.MixedSmall)
	s.Slow, s.SlowFiles = bytes(s.Slow), count(s.SlowFiles)
	s.Sparse, s.Many = bytes(s.Sparse), count(s.Many)
	for i := range s.GrowFiles {
		s.GrowFiles[i], s.GrowBytes[i] = count(s.GrowFiles[i]), bytes(s.GrowBytes[i])
	}
	return s
}
