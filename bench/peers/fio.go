package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// fioSettings are the block size and the depth that shard_to_ssd uses, for each of
// reading and writing.
type fioSettings struct {
	Block string // as fio has it: 4M
	Depth int
}

// fioOf does the I/O of a copy of large files and nothing else: reads the source
// and writes the destination at once, in files as large and as many, then reads
// the destination. The sync at the end of writing is in its time.
func fioOf(w workload, f fioSettings) contender {
	var source, copied []string
	for _, b := range w.batches {
		for file := range b.all() {
			source = append(source, "$SRC/"+file.path)
			copied = append(copied, "$DST/"+file.path)
		}
	}
	command := fmt.Sprintf(`fio --output-format=json --output="$TMP/fio.json" `+
		`--name=global --direct=1 --ioengine=libaio --bs=%s --iodepth=%d --size=%d --file_service_type=sequential `+
		`--name=source --rw=read --filename="%s" `+
		`--name=copy --rw=write --fallocate=native --end_fsync=1 --filename="%s" `+
		`--name=back --stonewall --rw=read --filename="%[5]s"`,
		f.Block, f.Depth, w.bytes(), strings.Join(source, ":"), strings.Join(copied, ":"))
	return contender{name: fioSame, command: command, tools: []string{"fio"}, check: sameSizes, read: readFio(w.bytes())}
}

// sameSizes is all that fio's copy has in common with the source.
const sameSizes = `cmp <(cd "$SRC" && find . -type f -printf '%p %s\n' | sort) <(cd "$DST" && find . -type f -printf '%p %s\n' | sort)`

// readFio takes the times from fio's own report: starting it, and its making of
// files, take some tenths of a second that are no I/O.
func readFio(bytes int64) func(place, []byte, *sample) error {
	return func(p place, _ []byte, s *sample) error {
		text, err := os.ReadFile(filepath.Join(p.temp, "fio.json"))
		if err != nil {
			return err
		}
		s.Wall, err = fioSeconds(text, bytes)
		return err
	}
}

// fioSeconds is the slower of source and copy, and back. All three must have moved
// all bytes.
func fioSeconds(text []byte, bytes int64) (float64, error) {
	type side struct {
		Runtime float64 `json:"runtime"` // milliseconds
		Bytes   int64   `json:"io_bytes"`
	}
	var report struct {
		Jobs []struct {
			Name  string `json:"jobname"`
			Error int    `json:"error"`
			Read  side   `json:"read"`
			Write side   `json:"write"`
		} `json:"jobs"`
	}
	if err := json.Unmarshal(text, &report); err != nil {
		return 0, fmt.Errorf("read fio's report: %w", err)
	}
	times := map[string]float64{}
	for _, job := range report.Jobs {
		moved := job.Read.Bytes + job.Write.Bytes
		if job.Error != 0 || moved != bytes {
			return 0, fmt.Errorf("fio: job %s: error %d, moved %d bytes, wanted %d", job.Name, job.Error, moved, bytes)
		}
		times[job.Name] = (job.Read.Runtime + job.Write.Runtime) / 1000
	}
	if len(times) != 3 {
		return 0, fmt.Errorf("fio: report of %d jobs, wanted 3", len(times))
	}
	return max(times["source"], times["copy"]) + times["back"], nil
}
