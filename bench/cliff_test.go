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

// stretch is a number of points around one rate, in MB/s.
type stretch struct {
	points int
	rate   float64
}

// series are points twice a second with normal noise, a part of the rate.
func series(noise float64, seed uint64, stretches ...stretch) (points []Point) {
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

// Where a cliff is, and how deep it is, or that there is none: whatever the noise.
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
			got := FindCliffs(series(c.noise, seed, c.stretches...))
			if len(got) != len(c.want) {
				t.Errorf("%s, seed %d: found %+v, wanted %+v", c.name, seed, got, c.want)
				continue
			}
			for i, g := range got {
				w := c.want[i]
				if math.Abs(g.Second-w.second) > 1.5 || far(g.Before, w.before*1e6) || far(g.After, w.after*1e6) {
					t.Errorf("%s, seed %d: found %+v, wanted %+v", c.name, seed, g, w)
				}
			}
		}
	}
}

// Recorded on the file system of the tests, told to take 64 MiB at 16 MiB/s and the rest
// at 3: requests of 1 MiB, 16 at once, so that what is slow comes in bursts.
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
	if len(got) != 1 || got[0].Offset != 68157440 || far(got[0].Before, 17e6) || far(got[0].After, 3.2e6) {
		t.Errorf("got %+v", got)
	}
}

// Recorded on a real disk, that of a virtual machine: its rate goes from 1.7 to 3.6 GB/s and
// back with no cliff. The same disk, slower from some point on, has one there.
func TestFindCliffsOnARealDisk(t *testing.T) {
	text, err := os.ReadFile("testdata/virtual-disk.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		slower float64 // by what the rate is divided
		from   int     // point
	}{{1, 0}, {4, 12}, {4, 24}, {2.5, 20}} {
		var points []Point
		last, was := Point{}, Point{}
		for line := range strings.Lines(string(text)) {
			if strings.HasPrefix(line, "#") {
				continue
			}
			var p Point
			if _, err := fmt.Sscan(line, &p.Second, &p.Offset); err != nil {
				t.Fatal(err)
			}
			rate := float64(p.Offset-was.Offset) / (p.Second - was.Second)
			if was = p; c.slower > 1 && len(points) >= c.from {
				rate /= c.slower
			}
			p.Rate, p.Offset = rate, last.Offset+int64(rate*(p.Second-last.Second))
			points, last = append(points, p), p
		}
		got := FindCliffs(points)
		if c.slower == 1 {
			if len(points) < 2*shortestLevel || len(got) != 0 {
				t.Errorf("%d points, cliffs %+v", len(points), got)
			}
			continue
		}
		// A hiccup beside it moves it by up to a second.
		if len(got) != 1 || math.Abs(got[0].Second-points[c.from-1].Second) > 1 {
			t.Errorf("slower by %v from %v s on: cliffs %+v", c.slower, points[c.from-1].Second, got)
		}
	}
}

// far reports that a rate is not within a tenth of another.
func far(got, want float64) bool { return got < want*0.9 || got > want*1.1 }

// The offset of a cliff is what was written before it.
func TestOffsetOfACliff(t *testing.T) {
	got := FindCliffs(series(0, 1, stretch{40, 1000}, stretch{40, 100}))
	if len(got) != 1 || got[0].Offset != 20e9 {
		t.Errorf("got %+v, wanted one at 20 GB", got)
	}
}

func TestWorstSecond(t *testing.T) {
	for _, c := range []struct {
		name      string
		stretches []stretch
		want      float64 // MB/s; -1: not known
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
		if worst := worstSecond(series(0, 1, c.stretches...)); worst != nil {
			got = *worst / 1e6
		}
		if math.Abs(got-c.want) > 0.01 {
			t.Errorf("%s: %v MB/s, wanted %v", c.name, got, c.want)
		}
	}
}

// A second in which nothing was written is known.
func TestWorstSecondOfNothing(t *testing.T) {
	if worst := worstSecond([]Point{{1, 100, 100}, {2, 100, 0}, {3, 200, 100}}); worst == nil || *worst != 0 {
		t.Errorf("got %v, wanted 0", worst)
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
		if got := recovered(series(0, 1, c.stretches...), cliff); got != c.want {
			t.Errorf("%s: %d bytes, wanted %d", c.name, got, c.want)
		}
	}
}
