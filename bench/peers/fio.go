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
	command := f.command(w) +
		`--name=source --rw=read --filename="` + filesIn("$SRC", w) + `" ` +
		`--name=copy --rw=write --fallocate=native --end_fsync=1 --filename="` + filesIn("$DST", w) + `" ` +
		`--name=back --stonewall --rw=read --filename="` + filesIn("$DST", w) + `"`
	return contender{name: fioSame, command: command, tools: []string{"fio"}, check: sameSizes, read: readFio(w.bytes(), "source", "copy", "back")}
}

// fioReadOf reads the copy of large files, and nothing else.
func fioReadOf(w workload, f fioSettings) contender {
	command := f.command(w) + `--name=back --rw=read --filename="` + filesIn("$DST/shard", w) + `"`
	return contender{name: fioRead, command: command, tools: []string{"fio"}, read: readFio(w.bytes(), "back")}
}

// command is what all of fio's jobs have in common. Its memory is in huge pages, as that of
// shard_to_ssd is: with those of 4 KiB it reads at half the rate here.
func (f fioSettings) command(w workload) string {
	return fmt.Sprintf(`GLIBC_TUNABLES=glibc.malloc.hugetlb=1 fio --iomem_align=2m --output-format=json --output="$TMP/fio.json" `+
		`--name=global --direct=1 --ioengine=libaio --bs=%s --iodepth=%d --size=%d --file_service_type=sequential `,
		f.Block, f.Depth, w.bytes())
}

// filesIn are the files of a workload as fio takes them.
func filesIn(dir string, w workload) string {
	var files []string
	for _, b := range w.batches {
		for file := range b.all() {
			files = append(files, dir+"/"+file.path)
		}
	}
	return strings.Join(files, ":")
}

// sameSizes is all that fio's copy has in common with the source.
const sameSizes = `cmp <(cd "$SRC" && find . -type f -printf '%p %s\n' | sort) <(cd "$DST" && find . -type f -printf '%p %s\n' | sort)`

// readFio takes the times of the jobs from fio's own report: starting it, and its
// making of files, take some tenths of a second that are no I/O.
func readFio(bytes int64, jobs ...string) func(place, []byte, *sample) error {
	return func(p place, _ []byte, s *sample) error {
		text, err := os.ReadFile(filepath.Join(p.temp, "fio.json"))
		if err != nil {
			return err
		}
		times, err := fioSeconds(text, bytes, jobs)
		// The source is read and the copy written at once.
		s.Wall = max(times["source"], times["copy"]) + times["back"]
		return err
	}
}

// fioSeconds are the times of the jobs, each of which must have moved all bytes.
func fioSeconds(text []byte, bytes int64, jobs []string) (map[string]float64, error) {
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
		return nil, fmt.Errorf("read fio's report: %w", err)
	}
	times := map[string]float64{}
	for _, job := range report.Jobs {
		moved := job.Read.Bytes + job.Write.Bytes
		if job.Error != 0 || moved != bytes {
			return nil, fmt.Errorf("fio: job %s: error %d, moved %d bytes, wanted %d", job.Name, job.Error, moved, bytes)
		}
		times[job.Name] = (job.Read.Runtime + job.Write.Runtime) / 1000
	}
	for _, job := range jobs {
		if _, ok := times[job]; !ok {
			return nil, fmt.Errorf("fio: no job %s in its report of %d", job, len(report.Jobs))
		}
	}
	return times, nil
}
