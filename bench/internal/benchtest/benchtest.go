// Package benchtest makes results of drives that do not exist, for tests and for the
// pictures of reports. All numbers are invented, and the same in each run.
package benchtest

import (
	"math"
	"math/rand/v2"
	"time"

	"shard_to_ssd/bench"
)

const (
	mib = 1 << 20
	gib = 1 << 30
)

// Drive describes an invented drive. Rates are in bytes a second.
type Drive struct {
	Name, Firmware string
	Read, Write    float64 // ceilings
	Cliff          float64 // bytes of its fast cache; 0: none
	Slow           float64 // rate after the cliff
	Heat           float64 // degrees Celsius when idle; 0: unknown
	Seed           uint64
}

// CachedDrive is a drive with a fast cache that fills up.
func CachedDrive() Drive {
	return Drive{Name: "Example Drive A 2TB", Firmware: "EXA1", Read: 6.6e9, Write: 5.2e9,
		Cliff: 168 * gib, Slow: 1.45e9, Heat: 38, Seed: 1}
}

// SteadyDrive is a slower drive with a constant rate.
func SteadyDrive() Drive {
	return Drive{Name: "Example Drive B 3.84TB", Firmware: "EXB7", Read: 5.4e9, Write: 3.4e9, Heat: 41, Seed: 2}
}

// MakeResult returns a result of a run on the drive, with n samples of each measurement.
func (d Drive) MakeResult(n int) *bench.Result {
	m := maker{d, rand.New(rand.NewPCG(d.Seed, 0)), n}
	r := &bench.Result{
		Version: bench.ResultVersion, Tool: "example", Profile: string(bench.Standard),
		Command: []string{"ssdbench", "run", "--target", "/mnt/example", "--profile", "standard"},
		Started: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC), Seconds: 911.5,
		Size: 16 * gib, Written: 640 * gib, Seed: d.Seed, Complete: true, CacheMethod: "drop_caches",
		Warnings: []string{"these numbers are invented: there is no such drive"},
		Facts:    m.driveFacts(), Ceilings: m.allCeilings(),
		Sustained: m.longWrite(), Readers: m.readersBesideCopy(),
	}
	best := 0.0
	for _, c := range r.Ceilings {
		if c.Way == bench.Both {
			best = max(best, middleValue(c.Rates))
		}
	}
	r.Cases = m.allCases(best)
	return r
}

func middleValue(values []float64) float64 { return values[len(values)/2] }

type maker struct {
	Drive
	rng *rand.Rand
	n   int
}

// vary returns v with normal noise; share is its standard deviation as a part of v.
func (m *maker) vary(v, share float64) float64 { return v * (1 + share*m.rng.NormFloat64()) }

func (m *maker) driveFacts() bench.Facts {
	f := bench.Facts{
		Device: new("nvme0n1"), Model: &m.Name, Firmware: &m.Firmware, Capacity: new(int64(2_000_398_934_016)),
		Transport: new("nvme"), LinkSpeed: new("16.0 GT/s PCIe"), LinkWidth: new(4), Rotational: new(false),
		Scheduler: new("none"), QueueDepth: new(1023), FileSystem: new("xfs"), Mount: new("noatime,rw"),
		Size: new(int64(1_990_000_000_000)), Free: new(int64(1_702_000_000_000)),
		Kernel: new("6.99.0-example"), CPU: new("Example CPU, 16 cores"), CPUs: 16, Governor: new("performance"),
		Memory: new(int64(128 * gib)),
	}
	if m.Heat > 0 {
		for s := range 180 {
			f.Temperatures = append(f.Temperatures, bench.Temperature{Second: float64(5 * s),
				Celsius: math.Round(m.Heat + 32*(1-math.Exp(-float64(s)/40)) + m.rng.Float64())})
		}
	}
	return f
}

func (m *maker) allCeilings() (list []bench.Ceiling) {
	for _, way := range []bench.Way{bench.Read, bench.Write, bench.Both} {
		top := map[bench.Way]float64{bench.Read: m.Read, bench.Write: m.Write, bench.Both: min(m.Read, m.Write) * 0.62}[way]
		for _, block := range []int64{128 << 10, mib, 4 * mib} {
			for _, depth := range []int{1, 8, 32} {
				rate := top * saturation(float64(block)*float64(depth), 1.5*mib)
				list = append(list, m.oneCeiling(way, block, depth, rate))
			}
		}
	}
	return list
}

// saturation rises from 0 to 1 with the bytes in flight; it is 0.5 at half.
func saturation(inFlight, half float64) float64 { return inFlight / (inFlight + half) }

func (m *maker) oneCeiling(way bench.Way, block int64, depth int, rate float64) bench.Ceiling {
	c := bench.Ceiling{Way: way, Block: block, Depth: depth}
	for range m.n {
		r := m.vary(rate, 0.012)
		c.Rates = append(c.Rates, r)
		c.Latency = append(c.Latency, m.latencyAround(float64(block)*float64(depth)/r, 4096))
	}
	return c
}

func (m *maker) latencyAround(typical float64, count int64) bench.Latency {
	p50 := m.vary(typical, 0.02)
	l := bench.Latency{Count: count, P50: p50, P90: p50 * m.vary(1.5, 0.03), P99: p50 * m.vary(2.6, 0.05)}
	l.P999 = l.P99 * m.vary(2.2, 0.08)
	l.Max = l.P999 * m.vary(2.5, 0.1)
	return l
}

// workload describes the files of a workload, and the rate that they allow.
type workload struct {
	name         string
	files, bytes int64
	share        float64 // largest part of the ceiling that a copy reaches
	blocks       []int64
}

func allWorkloads() []workload {
	return []workload{
		{"huge", 4, 16 * gib, 0.93, []int64{256 << 10, mib, 4 * mib}},
		{"small", 200_000, 2 * gib, 0.24, []int64{4 * mib}},
		{"mixed", 12_000, 8 * gib, 0.71, []int64{mib, 4 * mib}},
	}
}

func (m *maker) allCases(ceiling float64) (list []bench.Case) {
	engines := []struct {
		name  string
		share float64
	}{{"direct", 1}, {"buffered", 0.58}, {"range", 0.66}}
	for _, w := range allWorkloads() {
		for _, e := range engines {
			for _, block := range w.blocks {
				for _, jobs := range []int{1, 4} {
					rate := ceiling * w.share * e.share * saturation(float64(block)*float64(jobs), 0.6*mib)
					c := bench.Case{Workload: w.name, Engine: e.name, Block: block, Jobs: jobs, Files: w.files, Bytes: w.bytes, Ceiling: ceiling}
					list = append(list, m.addSamples(c, rate))
				}
			}
		}
	}
	huge := allWorkloads()[0]
	return append(list, bench.Case{Workload: huge.name, Engine: "clone", Block: 4 * mib, Jobs: 4, Files: huge.files, Bytes: huge.bytes,
		Ceiling: ceiling, Refused: "extents were shared: nothing was copied"})
}

// addSamples adds samples with about this rate.
func (m *maker) addSamples(c bench.Case, rate float64) bench.Case {
	jobs := float64(c.Jobs)
	for range m.n {
		last := float64(c.Bytes) / m.vary(rate, 0.015)
		each := last / float64(c.Files) * jobs
		c.Samples = append(c.Samples, bench.Sample{
			FirstDone: min(last, m.vary(each, 0.05)), LastDone: last, Copied: last * 0.93, Durable: last * 0.97,
			Verified: last * 1.01, CPU: m.vary(0.11*float64(c.Bytes)/gib+1e-5*float64(c.Files), 0.03),
			Memory: int64(c.Jobs)*c.Block + 40*mib, Cached: new(int64(0)),
			Block: m.latencyAround(float64(c.Block)*jobs/rate, c.Bytes/c.Block),
			File:  m.latencyAround(each, c.Files), Sync: m.latencyAround(0.004, max(c.Files/1000, 1)),
		})
	}
	return c
}

// longWrite writes 420 GiB. Some short dips in it are not cliffs.
func (m *maker) longWrite() *bench.Sustained {
	s := &bench.Sustained{Block: mib, Depth: 32, WorstSecond: new(math.MaxFloat64), Pause: 60}
	offset := 0.0
	for t := 0.5; offset < 420*gib; t += 0.5 {
		rate := m.Write
		if m.Cliff > 0 && offset > m.Cliff {
			rate = m.Slow * (1 + 0.12*math.Sin(t/3))
			if s.Cliff == nil {
				s.Cliff = &bench.Cliff{Offset: int64(offset), Second: t, Before: m.Write * 0.985, After: m.Slow}
			}
		}
		if m.rng.IntN(60) == 0 {
			rate *= 0.8
		}
		rate = m.vary(rate, 0.02)
		offset += rate / 2
		s.Points = append(s.Points, bench.Point{Second: t, Offset: int64(offset), Rate: rate})
		*s.WorstSecond = min(*s.WorstSecond, rate)
	}
	m.addRecovery(s)
	m.addReaderBeside(s)
	s.Rate, s.AfterPauseRate, s.Complete = bench.MeanRate(s.Points), bench.MeanRate(s.AfterPause), true
	return s
}

func (m *maker) addRecovery(s *bench.Sustained) {
	offset := 0.0
	for t := 0.5; t <= 20; t += 0.5 {
		rate := m.Write
		if m.Cliff > 0 && offset > 30*gib {
			rate = m.Slow
			if s.Recovery == nil {
				s.Recovery = new(math.Round(offset))
				s.RecoverySeconds = new(s.Pause * float64(s.Cliff.Offset) / *s.Recovery)
			}
		}
		rate = m.vary(rate, 0.02)
		offset += rate / 2
		s.AfterPause = append(s.AfterPause, bench.Point{Second: t, Offset: int64(offset), Rate: rate})
	}
}

// addReaderBeside adds the third write, which is a twentieth slower than the second.
func (m *maker) addReaderBeside(s *bench.Sustained) {
	offset := 0.0
	for _, p := range s.AfterPause {
		rate := m.vary(0.95*p.Rate, 0.02)
		offset += rate / 2
		s.BesideReader = append(s.BesideReader, bench.Point{Second: p.Second, Offset: int64(offset), Rate: rate})
	}
	s.Readers = &bench.Readers{Alone: m.latencyAround(78e-6, 60_000), Beside: m.latencyAround(420e-6, 40_000), Rate: bench.MeanRate(s.BesideReader)}
}

func (m *maker) readersBesideCopy() *bench.Readers {
	return &bench.Readers{Alone: m.latencyAround(78e-6, 60_000), Beside: m.latencyAround(310e-6, 22_000), Rate: m.Write * 0.55}
}
