package torture

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"shard_to_ssd/internal/faultfs"
	"shard_to_ssd/internal/testkit"
)

// rotten is a published shard on a disk that rots, with many files of one block and
// some of several.
type rotten struct {
	*host
	disk  *faultfs.FS
	sizes map[string]int64
	small []string
	large []string
}

func newRotten(t *testing.T, r *round, files int) *rotten {
	disk, h := lyingHost(t, program(t))
	d := &rotten{h, disk, map[string]int64{"big": bigSize}, nil, []string{"big"}}
	var steps []testkit.Step
	add := func(name string, size int64) {
		d.sizes[name] = size
		steps = append(steps, testkit.File(name, size, r.Uint64()))
	}
	for i := range files {
		name := fmt.Sprintf("many%d/%04d", i%7, i)
		d.small = append(d.small, name)
		add(name, 1+r.Int64N(9000))
	}
	for i := range 5 {
		name := fmt.Sprintf("large%d", i)
		d.large = append(d.large, name)
		add(name, 4*blockSize+r.Int64N(2*blockSize))
	}
	testkit.Apply(t, h.source, steps...)
	disk.Sync()
	if o := runCommand(h.command("-c", "a")); o.status != 0 {
		t.Fatal(o)
	}
	return d
}

// blockOf returns the block of a file that contains a byte, in the form of --verify
// --json.
func (d *rotten) blockOf(file string, at int64) string {
	from := at / blockSize * blockSize
	return fmt.Sprintf("content %s %d-%d", file, from, min(from+blockSize, d.sizes[file]))
}

// foundBlocks returns the blocks that --verify --json finds, each once.
func (d *rotten) foundBlocks(t *testing.T) (status int, blocks []string) {
	t.Helper()
	d.disk.DropCache()
	o := runCommand(d.command("--verify", "", "--json"))
	var r struct {
		Differences []struct {
			Path, Kind string
			Ranges     []struct{ From, To int64 }
		}
		Count int `json:"difference_count"`
	}
	if err := json.Unmarshal([]byte(o.out), &r); err != nil || r.Count != len(r.Differences) {
		t.Fatalf("%d differences of %d, %v: %v", len(r.Differences), r.Count, err, o)
	}
	for _, diff := range r.Differences {
		for _, s := range diff.Ranges {
			for from := s.From; from < s.To; from += blockSize {
				blocks = append(blocks, fmt.Sprintf("%s %s %d-%d", diff.Kind, diff.Path, from, min(from+blockSize, s.To)))
			}
		}
	}
	return o.status, blocks
}

// A thousand random bits are flipped, in a bounded round 300. Each block with a flipped bit is named, and no
// other block. After the bits are flipped back, the shard verifies.
func TestThousandFlips(t *testing.T) {
	rounds(t, 0.02, func(t *testing.T, r *round) {
		flips, files := 300, 500
		if r.full {
			flips, files = 1000, 1500
		}
		d := newRotten(t, r, files)
		type spot struct {
			file string
			at   int64
		}
		spots, want := map[spot]bool{}, map[string]bool{}
		for len(spots) < flips {
			files := d.small
			if r.IntN(60) == 0 { // rarely, so that most neighbours of damaged blocks are undamaged
				files = d.large
			}
			file := files[r.IntN(len(files))]
			s := spot{file, r.Int64N(d.sizes[file])}
			spots[s], want[d.blockOf(file, s.at)] = true, true
		}
		rot := func() {
			for s := range spots {
				if err := d.disk.FlipOnDisk("ssd/"+shardName+"/"+s.file, s.at); err != nil {
					t.Fatal(err)
				}
			}
		}
		rot()
		status, got := d.foundBlocks(t)
		slices.Sort(got)
		if wanted := slices.Sorted(maps.Keys(want)); status != 3 || !slices.Equal(got, wanted) {
			t.Errorf("got status %d, %d named blocks, %d with a flipped bit:\n%s\nwant\n%s",
				status, len(got), len(wanted), strings.Join(got, "\n"), strings.Join(wanted, "\n"))
		}
		rot()
		if status, got := d.foundBlocks(t); status != 0 || len(got) > 0 {
			t.Errorf("after flipping back: status %d, %q", status, got)
		}
		t.Logf("seed %d: %d flips in %d blocks of %d files", r.seed, len(spots), len(want), len(d.sizes))
		count("flipped bits of a published shard", flips)
	})
}

// mediaErrors are the error numbers that a device returns for a place that it cannot read.
var mediaErrors = []syscall.Errno{syscall.EIO, syscall.ENODATA, syscall.EILSEQ, syscall.ETIMEDOUT, syscall.EREMOTEIO, syscall.ENOLINK}

// Unreadable pages are named, in text and JSON, with the offset of the first one. The
// readable rest of the block is not named. All errors of a device count, not only EIO.
func TestUnreadablePieces(t *testing.T) {
	disk, h := lyingHost(t, program(t))
	if o := runCommand(h.command("-c", "a")); o.status != 0 {
		t.Fatal(o)
	}
	batched := *h
	batched.bin = faulty(t) // it reads even a few small files in batches
	const page, mid = 4096, blockSize + 1_234_567
	at := func(file string, from, to int64) faultfs.Fault {
		return faultfs.Fault{Op: faultfs.Read, Name: shardName + "/" + file, From: from, To: to}
	}
	for name, c := range map[string]struct {
		faults []faultfs.Fault
		file   string
		first  int64
		ranges string
	}{
		"one byte":             {[]faultfs.Fault{at("big", mid, mid+1)}, "big", mid / page * page, "5427200-5431296"},
		"the first":            {[]faultfs.Fault{at("big", 0, 1)}, "big", 0, "0-4096"},
		"the last":             {[]faultfs.Fault{at("big", bigSize-1, bigSize)}, "big", (bigSize - 1) / page * page, "9084928-9088609"},
		"across two blocks":    {[]faultfs.Fault{at("big", blockSize-1, blockSize+1)}, "big", blockSize - page, "4190208-4198400"},
		"two in one block":     {[]faultfs.Fault{at("big", 5000, 5001), at("big", 1<<20, 1<<20+1)}, "big", page, "4096-8192, 1048576-1052672"},
		"one in each of two":   {[]faultfs.Fault{at("big", 5000, 5001), at("big", mid, mid+1)}, "big", page, "4096-8192, 5427200-5431296"},
		"a whole block":        {[]faultfs.Fault{at("big", 0, blockSize)}, "big", 0, "0-4194304"},
		"a small file":         {[]faultfs.Fault{at("dir/small", 4999, 5000)}, "dir/small", page, "4096-5000"},
		"the whole small file": {[]faultfs.Fault{at("dir/small", 0, 5000)}, "dir/small", 0, "0-5000"},
		"in the middle":        {[]faultfs.Fault{at("dir/device", 150_000, 150_001)}, "dir/device", 147456, "147456-151552"},
	} {
		for _, errno := range mediaErrors {
			for i := range c.faults {
				c.faults[i].Err = errno
			}
			remove := injectFaults(disk, c.faults...)
			disk.DropCache()
			text := runCommand(h.command("--verify", ""))
			disk.DropCache()
			object := runCommand(batched.command("--verify", "", "--json"))
			remove()
			want := fmt.Sprintf("unreadable %s: read %s/%s: at offset %d: %v: bytes %s\n", c.file, h.published(), c.file, c.first, errno, c.ranges)
			if text.status != 3 || text.out != want {
				t.Errorf("%s: want status 3 and\n%sgot %v", name, want, text)
			}
			if err := checkUnreadable(object, c.file, c.ranges); err != nil {
				t.Errorf("%s, %v: in JSON: %v, %v", name, errno, err, object)
			}
			count("unreadable places", len(c.faults))
		}
	}
	disk.DropCache()
	if o := runCommand(h.command("--verify", "")); o.status != 0 {
		t.Error(o)
	}
}

// checkUnreadable wants one difference in the JSON of --verify: the ranges of the file are
// unreadable.
func checkUnreadable(o outcome, file, ranges string) error {
	var r struct {
		Differences []struct {
			Path, Kind string
			Ranges     []struct{ From, To int64 }
		}
	}
	if err := json.Unmarshal([]byte(o.out), &r); err != nil {
		return err
	}
	if o.status != 3 || len(r.Differences) != 1 || r.Differences[0].Kind != "unreadable" || r.Differences[0].Path != file {
		return fmt.Errorf("want status 3 and one difference, unreadable %s", file)
	}
	var got []string
	for _, s := range r.Differences[0].Ranges {
		got = append(got, fmt.Sprintf("%d-%d", s.From, s.To))
	}
	if strings.Join(got, ", ") != ranges {
		return fmt.Errorf("got ranges %q, want %s", got, ranges)
	}
	return nil
}

// A place of the source that cannot be read is no damage of the SSD, whatever the error
// number: a copy and an adoption fail, a comparison names the source.
func TestUnreadableSource(t *testing.T) {
	disk, h := lyingHost(t, program(t))
	for _, errno := range mediaErrors {
		bad := faultfs.Fault{Op: faultfs.Read, Name: "source/" + shardName + "/big", From: blockSize, To: blockSize + 1, Err: errno}
		named := fmt.Sprintf("%s/big: at offset %d: %v", h.source, blockSize, errno)
		run := func(mode, id string, flags ...string) outcome {
			t.Helper()
			disk.DropCache()
			defer injectFaults(disk, bad)()
			return runCommand(h.command(mode, id, flags...))
		}
		fails := func(mode, id string) {
			t.Helper()
			if o := run(mode, id); o.status != 1 || !strings.Contains(o.err, named) {
				t.Errorf("%s with an unreadable source: want status 1 and %q, got %v", mode, named, o)
			}
		}
		fails("-c", "a")
		if err := h.checkNotPublished(); err != nil {
			t.Error(err)
		}
		if o := runCommand(h.command("-c", "a")); o.status != 0 {
			t.Fatal(o)
		}
		want := fmt.Sprintf("unreadable big [source]: read %s: bytes %d-%d\n", named, blockSize, blockSize+4096)
		if o := run("--verify", "", "--source"); o.status == 3 || o.out != want {
			t.Errorf("got %v, want another status than 3, and\n%s", o, want)
		}
		if err := os.Rename(filepath.Join(h.stateDir(), "manifest"), filepath.Join(disk.Dir, "manifest")); err != nil {
			t.Fatal(err)
		}
		fails("--adopt", "")
		if o := runCommand(h.command("-r", "a")); o.status != 0 {
			t.Fatal(o)
		}
		count("unreadable sources", 1)
	}
}
