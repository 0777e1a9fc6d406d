package bench

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
)

// stretch is a number of points with about the same rate, in MB/s.
type stretch struct {
	points int
	rate   float64
}

// makeSeries makes points twice a second, with normal noise as a part of the rate.
func makeSeries(noise float64, seed uint64, stretches ...stretch) (points []Point) {
	random := rand.New(rand.NewPCG(seed, 1))
	second, offset := 0.0, int64(0)
	for _, s := range stretches {
		for range s.points {
			rate := max(s.rate*(1+noise*random.NormFloat64()), 0.01) * 1e6
			second += 0.5
			offset += int64(rate / 2)
			points = append(points, Point{Second: second, Offset: offset, Rate: rate})
		}
	}
	return points
}

// FindCliffs finds the place and the depth of each cliff at any noise, and nothing where
// there is no cliff.
func TestFindCliffs(t *testing.T) {
	type cliff struct{ second, before, after float64 }
	for _, c := range []struct {
		name      string
		noise     float64
		stretches []stretch
		want      []cliff
	}{
		{"nothing", 0, nil, nil},
		{"a point", 0, []stretch{{1, 1000}}, nil},
		{"flat", 0, []stretch{{200, 1000}}, nil},
		{"flat, noise", 0.2, []stretch{{200, 1000}}, nil},
		{"flat, much noise, long", 0.4, []stretch{{3000, 1000}}, nil},
		{"one", 0, []stretch{{60, 2000}, {100, 500}}, []cliff{{30, 2000, 500}}},
		{"one, noise", 0.2, []stretch{{60, 2000}, {100, 500}}, []cliff{{30, 2000, 500}}},
		{"one, small, noise", 0.1, []stretch{{100, 1000}, {100, 650}}, []cliff{{50, 1000, 650}}},
		{"early", 0.05, []stretch{{8, 3000}, {200, 300}}, []cliff{{4, 3000, 300}}},
		{"late", 0.05, []stretch{{400, 3000}, {8, 300}}, []cliff{{200, 3000, 300}}},
		{"two", 0.1, []stretch{{40, 3000}, {80, 1000}, {80, 150}}, []cliff{{20, 3000, 1000}, {60, 1000, 150}}},
		{"a fifth less is none", 0.05, []stretch{{100, 1000}, {100, 800}}, nil},
		{"faster is none", 0.1, []stretch{{100, 500}, {100, 1000}}, nil},
		{"a dip is none", 0.1, []stretch{{60, 1000}, {20, 100}, {60, 1000}}, nil},
		{"a second of nothing is none", 0.1, []stretch{{60, 1000}, {2, 0}, {60, 1000}}, nil},
		{"tidying up is none", 0.1, []stretch{{20, 1000}, {20, 300}, {20, 1000}, {20, 300}, {20, 1000}, {20, 300}}, nil},
		{"slow to start, then one", 0.1, []stretch{{8, 200}, {80, 2000}, {100, 500}}, []cliff{{44, 2000, 500}}},
		{"a dip, then one", 0.1, []stretch{{60, 2000}, {10, 100}, {60, 2000}, {100, 500}}, []cliff{{65, 2000, 500}}},
		{"one, then a second as before", 0.1, []stretch{{60, 2000}, {60, 500}, {2, 2000}, {60, 500}}, []cliff{{30, 2000, 500}}},
		{"hiccups, then one", 0.1, slices.Concat(slices.Repeat([]stretch{{7, 2000}, {1, 0}}, 8), slices.Repeat([]stretch{{3, 500}, {1, 0}}, 20)),
			[]cliff{{32, 1750, 375}}},
		{"in bursts after it", 0, slices.Concat([]stretch{{8, 1600}}, slices.Repeat([]stretch{{1, 420}, {1, 210}}, 5)),
			[]cliff{{4, 1600, 315}}},
		{"slow to sink is none", 0.02, []stretch{{20, 1000}, {20, 950}, {20, 900}, {20, 850}, {20, 800}, {20, 760}}, nil},
	} {
		for seed := range uint64(60) {
			got := FindCliffs(makeSeries(c.noise, seed, c.stretches...))
			if len(got) != len(c.want) {
				t.Errorf("%s, seed %d: got %+v, want %+v", c.name, seed, got, c.want)
				continue
			}
			for i, g := range got {
				w := c.want[i]
				if math.Abs(g.Second-w.second) > 1.5 || isFar(g.Before, w.before*1e6) || isFar(g.After, w.after*1e6) {
					t.Errorf("%s, seed %d: got %+v, want %+v", c.name, seed, g, w)
				}
			}
		}
	}
}

// These points were recorded on the test file system, set to take 64 MiB at 16 MiB/s and
// the rest at 3 MiB/s, with 16 requests of 1 MiB at a time. Slow writes arrive in bursts.
func TestFindCliffsInARecordedSeries(t *testing.T) {
	offsets := []int64{7340032, 15728640, 24117248, 32505856, 40894464, 49283072, 58720256, 68157440, 70254592, 71303168, 73400320,
		74448896, 76546048, 77594624, 79691776, 80740352, 82837504}
	seconds := []float64{0.500036234, 1.000034822, 1.50003398, 2.000051787, 2.500034301, 3.00003403, 3.5000336, 4.000035633, 4.500035352,
		5.000035513, 5.500037866, 6.000035392, 6.500035482, 7.000038046, 7.500034521, 8.000034401, 8.50003388}
	var points []Point
	last := Point{}
	for i := range offsets {
		p := Point{Second: seconds[i], Offset: offsets[i]}
		p.Rate = float64(p.Offset-last.Offset) / (p.Second - last.Second)
		points, last = append(points, p), p
	}
	got := FindCliffs(points)
	if len(got) != 1 || got[0].Offset != 68157440 || isFar(got[0].Before, 17e6) || isFar(got[0].After, 3.2e6) {
		t.Errorf("got %+v, want one cliff at 68157440 from 17 to 3.2 MB/s", got)
	}
}

// These points were recorded on the disk of a virtual machine. Its rate varies between
// 1.7 and 3.6 GB/s, without a cliff. The same disk has a cliff if it is made slower from
// some point on.
func TestFindCliffsOnARealDisk(t *testing.T) {
	text, err := os.ReadFile("testdata/virtual-disk.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		slower float64 // divisor of the rate
		from   int     // first slower point
	}{{1, 0}, {4, 12}, {4, 24}, {2.5, 20}} {
		var points []Point
		last, previous := Point{}, Point{}
		for line := range strings.Lines(string(text)) {
			if strings.HasPrefix(line, "#") {
				continue
			}
			var p Point
			if _, err := fmt.Sscan(line, &p.Second, &p.Offset); err != nil {
				t.Fatal(err)
			}
			rate := float64(p.Offset-previous.Offset) / (p.Second - previous.Second)
			if previous = p; c.slower > 1 && len(points) >= c.from {
				rate /= c.slower
			}
			p.Rate, p.Offset = rate, last.Offset+int64(rate*(p.Second-last.Second))
			points, last = append(points, p), p
		}
		got := FindCliffs(points)
		if c.slower == 1 {
			if len(points) < 2*minLevelPoints || len(got) != 0 {
				t.Errorf("%d points: got cliffs %+v, want none", len(points), got)
			}
			continue
		}
		// A hiccup near the cliff moves it by up to a second.
		if len(got) != 1 || math.Abs(got[0].Second-points[c.from-1].Second) > 1 {
			t.Errorf("slower by %v from %v s on: got cliffs %+v, want one there", c.slower, points[c.from-1].Second, got)
		}
	}
}

// isFar reports whether got differs from want by more than a tenth.
func isFar(got, want float64) bool { return got < want*0.9 || got > want*1.1 }

// The offset of a cliff is the number of bytes that were written before it.
func TestOffsetOfACliff(t *testing.T) {
	got := FindCliffs(makeSeries(0, 1, stretch{40, 1000}, stretch{40, 100}))
	if len(got) != 1 || got[0].Offset != 20e9 {
		t.Errorf("got %+v, want one cliff at 20 GB", got)
	}
}

func TestWorstSecond(t *testing.T) {
	for _, c := range []struct {
		name      string
		stretches []stretch
		want      float64 // MB/s; -1: unknown
	}{
		{"nothing", nil, -1},
		{"less than a second", []stretch{{1, 100}}, -1},
		{"a second", []stretch{{2, 100}}, 100},
		{"flat", []stretch{{20, 100}}, 100},
		{"half a second of nothing", []stretch{{10, 100}, {1, 0.01}, {10, 100}}, 50},
		{"the first", []stretch{{2, 10}, {10, 100}}, 10},
		{"the last", []stretch{{10, 100}, {2, 10}}, 10},
	} {
		got := -1.0
		if worst := worstSecond(makeSeries(0, 1, c.stretches...)); worst != nil {
			got = *worst / 1e6
		}
		if math.Abs(got-c.want) > 0.01 {
			t.Errorf("%s: got %v MB/s, want %v", c.name, got, c.want)
		}
	}
}

// A second without any write has a known rate: 0.
func TestWorstSecondOfNothing(t *testing.T) {
	if worst := worstSecond([]Point{{1, 100, 100}, {2, 100, 0}, {3, 200, 100}}); worst == nil || *worst != 0 {
		t.Errorf("got %v, want 0", worst)
	}
}

func TestRecovered(t *testing.T) {
	cliff := Cliff{Before: 1000e6, After: 100e6}
	for _, c := range []struct {
		name      string
		stretches []stretch
		want      int64
	}{
		{"nothing", nil, 0},
		{"not at all", []stretch{{20, 100}}, 0},
		{"for 5 seconds", []stretch{{10, 1000}, {20, 100}}, 5e9},
		{"all the time", []stretch{{20, 900}}, 9e9},
		{"with a hiccup", []stretch{{10, 1000}, {2, 50}, {10, 1000}, {20, 100}}, 10.05e9},
		{"to nearly the end", []stretch{{10, 1000}, {3, 100}}, 5e9},
	} {
		if got := recoveredBytes(makeSeries(0, 1, c.stretches...), cliff); got != c.want {
			t.Errorf("%s: got %d bytes, want %d", c.name, got, c.want)
		}
	}
}
