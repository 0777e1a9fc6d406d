package peers

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// FioSettings are the I/O settings of fio. They should be those of shard_to_ssd.
type FioSettings struct {
	Block string // as fio writes it: 4M
	Depth int    // of reading and of writing each
}

// fioCopy does the I/O of a copy of large files and nothing else. It reads the source
// and writes the destination at the same time, in as many files of the same size. Then
// it reads the destination. The sync after the last write is part of its time.
func fioCopy(w workload, f FioSettings) contender {
	command := f.commonOptions(w) +
		`--name=source --rw=read --filename="` + fioFiles("$SRC", w) + `" ` +
		`--name=copy --rw=write --fallocate=native --end_fsync=1 --filename="` + fioFiles("$DST", w) + `" ` +
		`--name=back --stonewall --rw=read --filename="` + fioFiles("$DST", w) + `"`
	return contender{name: fioSame, command: command, tools: []string{"fio"}, check: sameSizes, parse: parseFio(w.totalBytes(), "source", "copy", "back")}
}

// fioReadBack reads the copy of large files, and nothing else.
func fioReadBack(w workload, f FioSettings) contender {
	command := f.commonOptions(w) + `--name=back --rw=read --filename="` + fioFiles("$DST/shard", w) + `"`
	return contender{name: fioRead, command: command, tools: []string{"fio"}, parse: parseFio(w.totalBytes(), "back")}
}

// commonOptions are the options of all jobs. The memory is in huge pages, as in
// shard_to_ssd: with pages of 4 KiB fio reads at half the rate here.
func (f FioSettings) commonOptions(w workload) string {
	return fmt.Sprintf(`GLIBC_TUNABLES=glibc.malloc.hugetlb=1 fio --iomem_align=2m --output-format=json --output="$TMP/fio.json" `+
		`--name=global --direct=1 --ioengine=libaio --bs=%s --iodepth=%d --size=%d --file_service_type=sequential `,
		f.Block, f.Depth, w.totalBytes())
}

// fioFiles lists the files of a workload in the form of fio's --filename.
func fioFiles(dir string, w workload) string {
	var files []string
	for _, b := range w.batches {
		for file := range b.allFiles() {
			files = append(files, dir+"/"+file.path)
		}
	}
	return strings.Join(files, ":")
}

// sameSizes compares names and sizes: fio writes other data than the source has.
const sameSizes = `cmp <(cd "$SRC" && find . -type f -printf '%p %s\n' | sort) <(cd "$DST" && find . -type f -printf '%p %s\n' | sort)`

// parseFio takes the times of the jobs from fio's report. The wall time of the process
// would be some tenths of a second more, because fio starts and creates files.
func parseFio(bytes int64, jobs ...string) func(place, []byte, *sample) error {
	return func(p place, _ []byte, s *sample) error {
		text, err := os.ReadFile(filepath.Join(p.temp, "fio.json"))
		if err != nil {
			return err
		}
		times, err := fioSeconds(text, bytes, jobs)
		// Reading the source and writing the copy overlap.
		s.Wall = max(times["source"], times["copy"]) + times["back"]
		return err
	}
}

// fioSeconds returns the times of the jobs. Each job must have moved all bytes.
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
			return nil, fmt.Errorf("fio: job %s: got error %d and %d bytes, want no error and %d bytes", job.Name, job.Error, moved, bytes)
		}
		times[job.Name] = (job.Read.Runtime + job.Write.Runtime) / 1000
	}
	for _, job := range jobs {
		if _, ok := times[job]; !ok {
			return nil, fmt.Errorf("fio: its report of %d jobs lacks job %s", len(report.Jobs), job)
		}
	}
	return times, nil
}
