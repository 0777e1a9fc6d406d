package main

import (
	"fmt"
	"strconv"
)

const (
	kib = int64(1) << 10
	mib = int64(1) << 20
	gib = int64(1) << 30
)

// sizes are how much of everything there is. Bytes are logical; of sparse files a
// part is stored.
type sizes struct {
	Name    string
	Samples int // of each lane, unless a row says otherwise
	Calls   int // samples of what takes milliseconds

	Segments             int   // of the big set
	Segment, One         int64 // bytes of each, and of the one large file
	Small, SmallDirs     int
	MixedSegments        int
	MixedSegment         int64
	MixedSmall           int
	Slow                 int64 // bytes that come through the slow source
	SlowFiles            int
	Sparse               int64 // the file that memory is measured with
	Many                 int   // files that memory is measured with
	GrowFiles            [3]int
	GrowBytes            [3]int64
	GrowStored           int64 // one of so many bytes is no hole
	Reading, ReadMiB     int   // seconds that a reader is measured alone, and of what file it reads
	JournalMiB, SlackMiB int64 // of the SSD's ext4; room beyond what is copied
	Reduced              bool  // smaller than the targets are about
}

func full() sizes {
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

func standard() sizes {
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

func quick() sizes {
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

// tiny is for the test of this program: its numbers mean nothing.
func tiny() sizes {
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

// sizesOf takes a name, or a factor of the full size such as 0.25.
func sizesOf(name string) (sizes, error) {
	for _, s := range []sizes{full(), standard(), quick(), tiny()} {
		if s.Name == name {
			return s, nil
		}
	}
	factor, err := strconv.ParseFloat(name, 64)
	if err != nil || !(factor >= 0.001 && factor <= 100) {
		return sizes{}, fmt.Errorf("size %q: wanted tiny, quick, standard, full, or a factor of full from 0.001 to 100", name)
	}
	return full().times(name, factor), nil
}

func (s sizes) times(name string, factor float64) sizes {
	// Whole blocks: fio leaves out what is not one.
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
