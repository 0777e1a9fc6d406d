package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// A service that reads 4 kB at random from the SSD, one read at a time, while a shard
// is copied to it.

const (
	nothingBeside = "nothing beside"
	besideCopy    = "-c beside"
	besideLimited = "-c --bwlimit beside, half of what it moves without"
	besideTenth   = "-c --bwlimit beside, a tenth of that"
)

// fio of so many MiB in one file of the SSD.
func fioReads(mib int) string {
	return fmt.Sprintf(`fio --name=reads --filename="$MOUNT/reads" --size=%dM --direct=1 `, mib)
}

var latency = quantity{"p99 of a read", "µs", 0, value("p99", 1)}

func readers(s sizes) []contender {
	reads := fioReads(s.ReadMiB) + `--rw=randread --bs=4k --time_based --output-format=json --output="$TMP/reads.json" `
	beside := `cd "$TMP"; rm -f reading; ` + reads + `--runtime=3600 --exec_prerun="touch '$TMP/reading'" >/dev/null & reader=$!; ` +
		`trap 'kill -INT $reader; wait $reader || true' EXIT; until test -e "$TMP/reading"; do sleep 0.02; done; ` + ensure
	return []contender{
		{name: nothingBeside, command: reads + fmt.Sprint("--runtime=", s.Reading), tools: []string{"fio"}, read: readLatency},
		{name: besideCopy, command: beside, tools: []string{"fio"}, check: equal, after: release, read: readLatency},
		{name: besideLimited, command: beside + ` --bwlimit "$(cat "$TMP/half")"`, tools: []string{"fio"},
			check: equal, after: release, around: halfRate, read: readLimited(1)},
		{name: besideTenth, command: beside + ` --bwlimit "$(($(cat "$TMP/half") / 5))"`, tools: []string{"fio"},
			check: equal, after: release, around: halfRate, read: readLimited(0.2)},
	}
}

// halfRate copies once without a limit, and leaves half of the rate at which that read
// and wrote, in bytes a second.
func halfRate(ctx context.Context, p place) (func(*sample) error, error) {
	cmd, stdout, stderr := p.command(ctx, contender{command: ensure})
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("copy without a limit: %w: %s", err, tail(stderr.String()))
	}
	rate, err := toolRate(stdout.Bytes())
	if err != nil {
		return nil, err
	}
	half := int64(rate / 2)
	err = os.WriteFile(filepath.Join(p.temp, "half"), []byte(strconv.FormatInt(half, 10)), 0o600)
	if err == nil {
		err = p.shell(ctx, release)
	}
	return func(s *sample) error { s.set("limit", float64(half)); return nil }, err
}

// readLimited says besides how much of its limit a copy has used.
func readLimited(part float64) func(place, []byte, *sample) error {
	return func(p place, stdout []byte, s *sample) error {
		if err := readLatency(p, stdout, s); err != nil {
			return err
		}
		rate, err := toolRate(stdout)
		limit := s.Values["limit"] * part
		s.Chose = fmt.Sprintf("in the last sample %.0f MB/s were read and written of a limit of %.0f", rate/1e6, limit/1e6)
		return err
	}
}

// toolRate is how much a copy has read, written and read back, in bytes a second.
func toolRate(stdout []byte) (float64, error) {
	var r struct {
		Bytes   int64   `json:"bytes"`
		Seconds float64 `json:"seconds"`
	}
	if err := json.Unmarshal(stdout, &r); err != nil {
		return 0, fmt.Errorf("read the output of --json: %w", err)
	}
	return 3 * float64(r.Bytes) / r.Seconds, nil
}

func readLatency(p place, _ []byte, s *sample) error {
	text, err := os.ReadFile(filepath.Join(p.temp, "reads.json"))
	if err != nil {
		return err
	}
	p99, err := fioP99(text)
	s.set("p99", p99)
	return err
}

// fioP99 is the 99th percentile of the reads in fio's report, in microseconds.
func fioP99(text []byte) (float64, error) {
	var report struct {
		Jobs []struct {
			Read struct {
				Latency struct {
					Percentile map[string]float64 `json:"percentile"`
				} `json:"clat_ns"`
			} `json:"read"`
		} `json:"jobs"`
	}
	text = text[max(bytes.IndexByte(text, '{'), 0):] // before it, that a signal ended it
	if err := json.Unmarshal(text, &report); err != nil {
		return 0, fmt.Errorf("read fio's report: %w", err)
	}
	if len(report.Jobs) != 1 || report.Jobs[0].Read.Latency.Percentile["99.000000"] == 0 {
		return 0, fmt.Errorf("fio: no latency of reads in its report")
	}
	return report.Jobs[0].Read.Latency.Percentile["99.000000"] / 1000, nil
}

func readersTable(w workload, s sizes) table {
	ready := fioReads(s.ReadMiB) + "--rw=write --bs=1M --end_fsync=1 >/dev/null"
	return table{
		title: on(w, "ext4") + ", a reader of 4 kB at random on the same SSD", quantity: latency,
		lanes:   in(setting{name: "readers", keep: true, ready: ready}, w, "ext4", readers(s)...),
		targets: []target{atMost(1.5, besideLimited, nothingBeside)},
	}
}
