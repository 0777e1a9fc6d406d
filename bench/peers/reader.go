package peers

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"

	"shard_to_ssd/bench"
	"shard_to_ssd/internal/errs"
)

// A service reads 4 KiB at random from the SSD, one read at a time, while a shard is
// copied to it.

// Names of the contenders beside a reader.
const (
	readerAlone   = "no copy"
	duringCopy    = "-c"
	duringLimited = "-c --bwlimit, half of the rate without a limit"
	duringTenth   = "-c --bwlimit, a tenth of the rate without a limit"
)

var latency = quantity{"p99 of a read", "µs", 0, namedValue("p99", 1)}

// besideReader are the contenders whose sample is the latency of a reader.
func besideReader(s sizes) []contender {
	copying := contender{check: equal, after: release}
	copying.name, copying.command, copying.around = duringCopy, ensure, startReader
	limited := copying
	limited.name, limited.command = duringLimited, ensure+` --bwlimit "$(cat "$TMP/half")"`
	limited.around, limited.parse = startReaderLimited, parseUsedLimit(1)
	tenth := limited
	tenth.name, tenth.command = duringTenth, ensure+` --bwlimit "$(($(cat "$TMP/half") / 5))"`
	tenth.parse = parseUsedLimit(0.2)
	return []contender{
		{name: readerAlone, command: fmt.Sprint("sleep ", s.Reading), around: startReader},
		copying, limited, tenth,
	}
}

// startReader reads from the SSD until the command has ended.
func startReader(ctx context.Context, p place) (func(*sample) error, error) {
	reader, err := bench.OpenRandomReader(filepath.Join(p.mount, "reads"), 1)
	if err != nil {
		return nil, err
	}
	stop := reader.StartReading(ctx)
	return func(s *sample) error {
		latency, err := stop()
		if err := errs.Join(err, reader.Close()); err != nil {
			return fmt.Errorf("read beside the command: %w", err)
		}
		s.setValue("p99", latency.P99*1e6)
		return nil
	}, nil
}

// startReaderLimited first measures the rate of a copy without a limit. It leaves half
// of it, in bytes per second, in a file for the command.
func startReaderLimited(ctx context.Context, p place) (func(*sample) error, error) {
	half, err := halfRate(ctx, p)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(p.temp, "half"), []byte(strconv.FormatInt(half, 10)), 0o600); err != nil {
		return nil, err
	}
	finish, err := startReader(ctx, p)
	if err != nil {
		return nil, err
	}
	return func(s *sample) error {
		s.setValue("limit", float64(half))
		return finish(s)
	}, nil
}

// halfRate copies once without a limit, and returns half of the rate of that copy.
func halfRate(ctx context.Context, p place) (int64, error) {
	cmd, stdout, stderr := p.newCommand(ctx, contender{command: ensure})
	if err := cmd.Run(); err != nil {
		return 0, fmt.Errorf("copy without a limit: %w: %s", err, lastOutput(stderr.String()))
	}
	rate, err := movedRate(stdout.Bytes())
	if err != nil {
		return 0, err
	}
	return int64(rate / 2), p.runShell(ctx, release)
}

// parseUsedLimit reports how much of its limit a copy used. The limit is a part of the
// half rate.
func parseUsedLimit(part float64) func(place, []byte, *sample) error {
	return func(_ place, stdout []byte, s *sample) error {
		rate, err := movedRate(stdout)
		if err != nil {
			return err
		}
		limit := s.Values["limit"] * part
		s.Chose = fmt.Sprintf("the last sample read and wrote %.0f MB/s, with a limit of %.0f MB/s", rate/1e6, limit/1e6)
		return nil
	}
}

// movedRate returns how many bytes per second a copy read, wrote and read back.
func movedRate(stdout []byte) (float64, error) {
	r, err := parseToolResult(stdout)
	if err != nil {
		return math.NaN(), err
	}
	return 3 * float64(r.Bytes) / r.Seconds, nil
}

func readerTable(w workload, s sizes) table {
	ready := fmt.Sprintf(`head -c %dM /dev/urandom >"$MOUNT/reads" && sync -f "$MOUNT"`, s.ReadMiB)
	return table{
		title: titleOf(w, "ext4") + ", with random reads of 4 KiB on the same SSD", quantity: latency,
		lanes:   lanesIn(setting{name: "readers", keep: true, ready: ready}, w, "ext4", besideReader(s)...),
		targets: []target{atMost(1.5, duringLimited, readerAlone)},
	}
}
