package peers

import (
	"fmt"
	"math"
	"strings"
)

// sample is one measurement. Times are in seconds, sizes in bytes.
type sample struct {
	Wall   float64            `json:"wall"`
	CPU    float64            `json:"cpu"`              // user and system time of all processes that were waited for
	RSS    int64              `json:"rss"`              // the peak of the process that used most
	Values map[string]float64 `json:"values,omitempty"` // values that only some contenders have
	Chose  string             `json:"chose,omitempty"`  // the settings that shard_to_ssd chose
}

func (s *sample) setValue(name string, value float64) {
	if s.Values == nil {
		s.Values = map[string]float64{}
	}
	s.Values[name] = value
}

// quantity is the value of a sample that a table shows.
type quantity struct {
	name, unit string
	digits     int
	of         func(workload, sample) float64
}

func (q quantity) formatValue(v float64) string { return fmt.Sprintf("%.*f", q.digits, v) }

// namedValue returns a function for the value of that name, times a factor. Without
// the value the result is NaN.
func namedValue(name string, factor float64) func(workload, sample) float64 {
	return func(_ workload, s sample) float64 {
		v, ok := s.Values[name]
		if !ok {
			return math.NaN()
		}
		return v * factor
	}
}

// The quantities of rows. They never change; Go has no constants of this type.
var (
	seconds      = quantity{"time", "s", 2, func(_ workload, s sample) float64 { return s.Wall }}
	milliseconds = quantity{"time", "ms", 2, func(_ workload, s sample) float64 { return s.Wall * 1000 }}
	cpu          = quantity{"CPU", "CPU-s/GiB", 3, func(w workload, s sample) float64 { return s.CPU * float64(gib) / float64(w.totalBytes()) }}
	perFile      = quantity{"time per file", "µs", 1, func(w workload, s sample) float64 { return s.Wall * 1e6 / float64(w.fileCount()) }}
	perGiB       = quantity{"time per GiB", "s", 3, func(w workload, s sample) float64 { return s.Wall * float64(gib) / float64(w.totalBytes()) }}
	peak         = quantity{"peak memory", "MiB", 1, namedValue("peak", 1/float64(mib))}
	cacheKept    = quantity{"cached before and still cached", "%", 1, namedValue("cache kept", 100)}
	gone         = quantity{"name gone after", "ms", 1, namedValue("gone", 1000)}
	copyPhase    = quantity{"copy phase of --json", "ms", 1, func(_ workload, s sample) float64 { return copySeconds(s) * 1000 }}
	cacheLeft    = quantity{"newly cached", "% of the bytes", 2, func(w workload, s sample) float64 {
		return namedValue("cache left", 100)(w, s) / float64(w.totalBytes())
	}}
)

// copySeconds returns the time of the phase that clones. Without one, it returns the
// time of all phases that copy.
func copySeconds(s sample) float64 {
	if v, ok := s.Values["phase clone"]; ok {
		return v
	}
	sum, found := 0.0, false
	for name, v := range s.Values {
		if strings.HasPrefix(name, "phase copy") {
			sum, found = sum+v, true
		}
	}
	if !found {
		return math.NaN()
	}
	return sum
}
