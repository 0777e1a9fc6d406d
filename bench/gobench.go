package bench

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/perf/benchfmt"
)

// WriteGoBench writes results in the format of Go benchmarks, with a line for each
// sample. benchstat reads that format. A fact is a line "key: value". An unknown fact has
// no line, or an empty one that clears the fact of the result before.
//
// benchstat makes a table for each set of facts. This command puts two drives side by
// side:
//
//	benchstat -table .name old.txt new.txt
func WriteGoBench(to io.Writer, results ...*Result) error {
	if err := writeUnits(to, results); err != nil {
		return err
	}
	w := benchfmt.NewWriter(to)
	for _, r := range results {
		if err := writeSampleLines(w, r); err != nil {
			return err
		}
	}
	return nil
}

func writeSampleLines(w *benchfmt.Writer, r *Result) error {
	config := goBenchConfig(r)
	for _, s := range r.sampleLines() {
		if len(s.values) == 0 {
			continue
		}
		rec := &benchfmt.Result{Config: config, Name: benchfmt.Name(s.name), Iters: int(s.count)}
		for _, v := range s.values {
			rec.Values = append(rec.Values, benchfmt.Value{Value: v.value, Unit: v.unit})
		}
		if err := w.Write(rec); err != nil {
			return err
		}
	}
	return nil
}

// writeUnits writes for each unit whether a higher or a lower value is better.
func writeUnits(to io.Writer, results []*Result) error {
	var units []string
	for _, r := range results {
		for _, m := range r.Measures() {
			units = append(units, m.Unit)
		}
	}
	slices.Sort(units)
	for _, unit := range slices.Compact(units) {
		better := "lower"
		if higherIsBetter(unit) {
			better = "higher"
		}
		if _, err := fmt.Fprintf(to, "Unit %s better=%s\n", unit, better); err != nil {
			return err
		}
	}
	return nil
}

// goBenchConfig returns the settings and the known facts of a result.
func goBenchConfig(r *Result) (list []benchfmt.Config) {
	add := func(key, text string) {
		// A value must not contain a newline.
		if text = strings.Join(strings.Fields(text), " "); text != "" {
			list = append(list, benchfmt.Config{Key: key, Value: []byte(text), File: true})
		}
	}
	add("tool", r.Tool)
	add("profile", r.Profile)
	add("size", FormatBytes(r.Size))
	add("caches", r.CacheMethod)
	for _, f := range r.Facts.ListKnown() {
		add(strings.ReplaceAll(f.Key, "_", "-"), f.Text)
	}
	return list
}

// Fact is a known fact.
type Fact struct {
	Key  string // as in the JSON of a result
	Text string // value in base units
}

// ListKnown returns the known facts, those of the drive first. It leaves out the
// temperatures, which are a series.
func (f *Facts) ListKnown() (list []Fact) {
	text := func(key string, value *string) {
		if value != nil {
			list = append(list, Fact{key, *value})
		}
	}
	number := func(key string, value *int64) {
		if value != nil {
			list = append(list, Fact{key, strconv.FormatInt(*value, 10)})
		}
	}
	text("device", f.Device)
	text("model", f.Model)
	text("firmware", f.Firmware)
	text("serial", f.Serial)
	number("capacity", f.Capacity)
	text("transport", f.Transport)
	text("link_speed", f.LinkSpeed)
	number("link_width", toInt64(f.LinkWidth))
	text("link_speed_max", f.LinkSpeedMax)
	number("link_width_max", toInt64(f.LinkWidthMax))
	if f.Rotational != nil {
		list = append(list, Fact{"rotational", strconv.FormatBool(*f.Rotational)})
	}
	text("scheduler", f.Scheduler)
	number("queue_depth", toInt64(f.QueueDepth))
	if len(f.Layers) > 0 {
		list = append(list, Fact{"layers", strings.Join(f.Layers, " ")})
	}
	text("file_system", f.FileSystem)
	text("mount_options", f.Mount)
	number("fs_size", f.Size)
	number("fs_free", f.Free)
	text("kernel", f.Kernel)
	text("cpu", f.CPU)
	if f.CPUs > 0 {
		list = append(list, Fact{"cpus", strconv.Itoa(f.CPUs)})
	}
	text("governor", f.Governor)
	number("memory", f.Memory)
	text("virtual", f.Virtual)
	return list
}

func toInt64(n *int) *int64 {
	if n == nil {
		return nil
	}
	w := int64(*n)
	return &w
}
