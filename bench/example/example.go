// Package example makes results of drives that do not exist, for tests and for a look
// at a report. Every number in them is invented, and the same each time.
package example

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

// Drive is what an invented drive is like. Rates are bytes a second.
type Drive struct {
	Name, Firmware string
	Read, Write    float64 // ceilings
	Cliff          float64 // bytes of its fast cache; 0: it has none
	Slow           float64 // rate behind the cliff
	Heat           float64 // degrees Celsius when idle; 0: not known
	Seed           uint64
}

// Cached is a drive with a fast cache that fills up.
func Cached() Drive {
	return Drive{Name: "Example Drive A 2TB", Firmware: "EXA1", Read: 6.6e9, Write: 5.2e9,
		Cliff: 168 * gib, Slow: 1.45e9, Heat: 38, Seed: 1}
}

// Steady is a slower drive that is the same from beginning to end.
func Steady() Drive {
	return Drive{Name: "Example Drive B 3.84TB", Firmware: "EXB7", Read: 5.4e9, Write: 3.4e9, Heat: 41, Seed: 2}
}

// Result is what a run on the drive could have measured, n samples of each.
func (d Drive) Result(n int) *bench.Result {
	m := maker{d, rand.New(rand.NewPCG(d.Seed, 0)), n}
	r := &bench.Result{
		Version: bench.ResultVersion, Tool: "example", Profile: string(bench.Standard),
		Command: []string{"ssdbench", "run", "--target", "/mnt/example", "--profile", "standard"},
		Started: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC), Seconds: 911.5,
		Size: 16 * gib, Written: 640 * gib, Seed: d.Seed, Complete: true, Cold: "drop_caches",
		Warnings: []string{"these numbers are invented: there is no such drive"},
		Facts:    m.facts(), Ceilings: m.ceilings(),
		Sustained: m.sustained(), Readers: m.readers(),
	}
	best := 0.0
	for _, c := range r.Ceilings {
		if c.Way == bench.Both {
			best = max(best, middle(c.Rates))
		}
	}
	r.Cases = m.cases(best)
	return r
}

func middle(of []float64) float64 { return of[len(of)/2] }

type maker struct {
	Drive
	rng *rand.Rand
	n   int
}

// about is v, give or take a share.
func (m *maker) about(v, share float64) float64 { return v * (1 + share*m.rng.NormFloat64()) }

func (m *maker) facts() bench.Facts {
	f := bench.Facts{
		Device: ptr("nvme0n1"), Model: &m.Name, Firmware: &m.Firmware, Capacity: ptr(int64(2_000_398_934_016)),
		Transport: ptr("nvme"), LinkSpeed: ptr("16.0 GT/s PCIe"), LinkWidth: ptr(4), Rotational: ptr(false),
		Scheduler: ptr("none"), QueueDepth: ptr(1023), FileSystem: ptr("xfs"), Mount: ptr("noatime,rw"),
		Size: ptr(int64(1_990_000_000_000)), Free: ptr(int64(1_702_000_000_000)),
		Kernel: ptr("6.99.0-example"), CPU: ptr("Example CPU, 16 cores"), CPUs: 16, Governor: ptr("performance"),
		Memory: ptr(int64(128 * gib)),
	}
	if m.Heat > 0 {
		for s := range 180 {
			f.Heat = append(f.Heat, bench.Heat{Second: float64(5 * s),
				Celsius: math.Round(m.Heat + 32*(1-math.Exp(-float64(s)/40)) + m.rng.Float64())})
		}
	}
	return f
}

func ptr[T any](v T) *T { return &v }

func (m *maker) ceilings() (list []bench.Ceiling) {
	for _, way := range []bench.Way{bench.Read, bench.Write, bench.Both} {
		top := map[bench.Way]float64{bench.Read: m.Read, bench.Write: m.Write, bench.Both: min(m.Read, m.Write) * 0.62}[way]
		for _, block := range []int64{128 << 10, mib, 4 * mib} {
			for _, depth := range []int{1, 8, 32} {
				rate := top * saturates(float64(block)*float64(depth), 1.5*mib)
				list = append(list, m.ceiling(way, block, depth, rate))
			}
		}
	}
	return list
}

// saturates goes from 0 to 1 as what is under way grows.
func saturates(inFlight, half float64) float64 { return inFlight / (inFlight + half) }

func (m *maker) ceiling(way bench.Way, block int64, depth int, rate float64) bench.Ceiling {
	c := bench.Ceiling{Way: way, Block: block, Depth: depth}
	for range m.n {
		r := m.about(rate, 0.012)
		c.Rates = append(c.Rates, r)
		c.Latency = append(c.Latency, m.latency(float64(block)*float64(depth)/r, 4096))
	}
	return c
}

func (m *maker) latency(typical float64, count int64) bench.Latency {
	p50 := m.about(typical, 0.02)
	l := bench.Latency{Count: count, P50: p50, P90: p50 * m.about(1.5, 0.03), P99: p50 * m.about(2.6, 0.05)}
	l.P999 = l.P99 * m.about(2.2, 0.08)
	l.Max = l.P999 * m.about(2.5, 0.1)
	return l
}

// workload is how an engine's rate suffers from what the files are like.
type workload struct {
	name         string
	files, bytes int64
	share        float64 // of the ceiling that is reached at best
	blocks       []int64
}

func workloads() []workload {
	return []workload{
		{"huge", 4, 16 * gib, 0.93, []int64{256 << 10, mib, 4 * mib}},
		{"small", 200_000, 2 * gib, 0.24, []int64{4 * mib}},
		{"mixed", 12_000, 8 * gib, 0.71, []int64{mib, 4 * mib}},
	}
}

func (m *maker) cases(ceiling float64) (list []bench.Case) {
	engines := []struct {
		name  string
		share float64
	}{{"direct", 1}, {"buffered", 0.58}, {"range", 0.66}}
	for _, w := range workloads() {
		for _, e := range engines {
			for _, block := range w.blocks {
				for _, jobs := range []int{1, 4} {
					rate := ceiling * w.share * e.share * saturates(float64(block)*float64(jobs), 0.6*mib)
					list = append(list, m.one(w, e.name, block, jobs, ceiling, rate))
				}
			}
		}
	}
	clone := m.one(workloads()[0], "clone", 4*mib, 4, ceiling, ceiling)
	clone.Samples, clone.Refused = nil, "extents were shared: nothing was copied"
	return append(list, clone)
}

func (m *maker) one(w workload, engine string, block int64, jobs int, ceiling, rate float64) bench.Case {
	c := bench.Case{Workload: w.name, Engine: engine, Block: block, Jobs: jobs, Files: w.files, Bytes: w.bytes, Ceiling: ceiling}
	for range m.n {
		last := float64(w.bytes) / m.about(rate, 0.015)
		each := last / float64(w.files) * float64(jobs)
		c.Samples = append(c.Samples, bench.Sample{
			FirstDone: min(last, m.about(each, 0.05)), LastDone: last, Copied: last * 0.93, Durable: last * 0.97,
			Verified: last * 1.01, CPU: m.about(0.11*float64(w.bytes)/gib+1e-5*float64(w.files), 0.03),
			Memory: int64(jobs)*block + 40*mib, Cached: ptr(int64(0)),
			Block: m.latency(float64(block)*float64(jobs)/rate, w.bytes/block),
			File:  m.latency(each, w.files), Sync: m.latency(0.004, max(w.files/1000, 1)),
		})
	}
	return c
}

// sustained writes 420 GiB, and has a wobble now and then that is no cliff.
func (m *maker) sustained() *bench.Sustained {
	s := &bench.Sustained{Block: mib, Depth: 32, WorstSecond: ptr(math.MaxFloat64), Pause: 60}
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
		rate = m.about(rate, 0.02)
		offset += rate / 2
		s.Points = append(s.Points, bench.Point{Second: t, Offset: int64(offset), Rate: rate})
		*s.WorstSecond = min(*s.WorstSecond, rate)
	}
	m.recover(s)
	m.beside(s)
	s.Rate, s.AfterItRate, s.Complete = bench.MeanRate(s.Points), bench.MeanRate(s.AfterIt), true
	return s
}

func (m *maker) recover(s *bench.Sustained) {
	offset := 0.0
	for t := 0.5; t <= 20; t += 0.5 {
		rate := m.Write
		if m.Cliff > 0 && offset > 30*gib {
			rate = m.Slow
			if s.Recovery == nil {
				s.Recovery = ptr(math.Round(offset))
				s.RecoverySeconds = ptr(s.Pause * float64(s.Cliff.Offset) / *s.Recovery)
			}
		}
		rate = m.about(rate, 0.02)
		offset += rate / 2
		s.AfterIt = append(s.AfterIt, bench.Point{Second: t, Offset: int64(offset), Rate: rate})
	}
}

// beside writes a twentieth slower, with a reader beside it.
func (m *maker) beside(s *bench.Sustained) {
	offset := 0.0
	for _, p := range s.AfterIt {
		rate := m.about(0.95*p.Rate, 0.02)
		offset += rate / 2
		s.Beside = append(s.Beside, bench.Point{Second: p.Second, Offset: int64(offset), Rate: rate})
	}
	s.Readers = &bench.Readers{Alone: m.latency(78e-6, 60_000), Beside: m.latency(420e-6, 40_000), Rate: bench.MeanRate(s.Beside)}
}

func (m *maker) readers() *bench.Readers {
	return &bench.Readers{Alone: m.latency(78e-6, 60_000), Beside: m.latency(310e-6, 22_000), Rate: m.Write * 0.55}
}
