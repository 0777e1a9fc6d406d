package torture

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"shard_to_ssd/internal/faultfs"
	"shard_to_ssd/internal/testkit"
)

// lyingHost makes a host whose source, lock dir and SSD dir are on one faultfs.
func lyingHost(t testing.TB, bin string) (*faultfs.FS, *host) {
	t.Helper()
	testkit.RequireRoot(t)
	disk := faultfs.New(t, 256<<20)
	h := newHost(t, bin, filepath.Join(disk.Dir, "source"), disk.Dir)
	testkit.Apply(t, h.source,
		testkit.File("big", bigSize, 1), testkit.File("dir/device", 300_000, 2),
		testkit.File("dir/small", 5000, 3), testkit.File("empty", 0, 4))
	disk.Sync()
	return disk, h
}

// big has two whole blocks and a part of a third.
const (
	blockSize = 4 << 20
	bigSize   = 2*blockSize + 700_001
)

// spots are bytes of the shard, each with its block.
var spots = []struct {
	file         string
	at, from, to int64
}{
	{"big", 0, 0, blockSize},
	{"big", blockSize + 1_234_567, blockSize, 2 * blockSize},
	{"big", bigSize - 1, 2 * blockSize, bigSize},
	{"dir/device", 150_000, 0, 300_000},
	{"dir/small", 4999, 0, 5000},
}

// copyWays returns combinations of engines and numbers of workers.
func copyWays() (all [][]string) {
	for _, engine := range []string{"auto", "direct", "buffered", "range"} {
		for _, jobs := range []string{"1", "4"} {
			all = append(all, []string{"--engine", engine, "--jobs", jobs})
		}
	}
	return all
}

// injectFaults activates the faults until remove is called.
func injectFaults(disk *faultfs.FS, faults ...faultfs.Fault) (remove func()) {
	var injected []*faultfs.Injected
	for _, f := range faults {
		injected = append(injected, disk.Inject(f))
	}
	return func() {
		for _, i := range injected {
			i.Remove()
		}
	}
}

// checkNotPublished checks the host after a first copy that failed.
func (h *host) checkNotPublished() error {
	if _, err := os.Lstat(h.published()); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("it is published, or lstat failed: %v", err)
	}
	if left := namesIn(h.locks); len(left) > 0 {
		return fmt.Errorf("the lock dir contains %q", left)
	}
	return h.checkPrivate()
}

// tryCopy runs one case on a host with nothing on the SSD, and removes the copy.
func tryCopy(disk *faultfs.FS, h *host, faults string, remove func(), flags []string, check func(outcome) error) error {
	disk.DropCache()
	o := runCommand(h.command("-c", "a", flags...))
	err := check(o)
	remove()
	if err == nil && o.status != 3 { // after status 3 nothing is left, as check has seen
		err = h.checkRetry(flags...)
	}
	if err != nil {
		return fmt.Errorf("%s, %q: %w\nthe first copy: %v", faults, flags, err, o)
	}
	return nil
}

// checkRetry checks that the same copy succeeds when the disk works again, and that its
// removal leaves nothing.
func (h *host) checkRetry(flags ...string) error {
	if o := runCommand(h.command("-c", "a", flags...)); o.status != 0 {
		return fmt.Errorf("the copy again: %v", o)
	}
	if users, err := h.users(); err != nil || !slices.Equal(users, []string{"a"}) {
		return fmt.Errorf("after the copy again: the users are %q, %v", users, err)
	}
	if _, err := os.Lstat(h.published()); err != nil {
		return fmt.Errorf("after the copy again: %w", err)
	}
	if err := h.checkWhole(); err != nil {
		return fmt.Errorf("after the copy again: %w", err)
	}
	if o := runCommand(h.command("-r", "a")); o.status != 0 {
		return fmt.Errorf("its removal: %v", o)
	}
	return h.checkTraceless()
}

// lyingFaults are faults that leave another byte on the disk than was written.
func lyingFaults(file string, at int64) map[string][]faultfs.Fault {
	stage := "stage/" + file
	flip := faultfs.FlipBit(at)
	return map[string][]faultfs.Fault{
		"flipped when read":    {{Op: faultfs.Read, Name: stage, From: at, To: at + 1, Change: flip}},
		"flipped when written": {{Op: faultfs.Write, Name: stage, From: at, To: at + 1, Change: flip}, {Op: faultfs.CopyRange, Name: stage, From: at, To: at + 1, Change: flip}},
		"dropped":              {{Op: faultfs.Write, Name: stage, From: at, To: at + 1, Drop: true}, {Op: faultfs.CopyRange, Name: stage, From: at, To: at + 1, Drop: true}},
	}
}

// Damage is found before publishing, with every engine. A block that was damaged once
// is copied again, and only once. Lasting damage is reported.
func TestLiesAreFound(t *testing.T) {
	rounds(t, 0.03, func(t *testing.T, r *round) {
		disk, h := lyingHost(t, program(t))
		n := 0
		for _, flags := range copyWays() {
			for _, spot := range spots {
				for lie, all := range lyingFaults(spot.file, spot.at) {
					for _, times := range []int{1, 2, 0} {
						if !r.full && r.IntN(8) > 0 || r.over() {
							continue
						}
						if flags[1] == "range" && times == 2 {
							continue // the second try uses another engine
						}
						faults := all
						if times > 0 { // once in total, for the calls that the engine uses for writing
							faults = faults[:1]
							if flags[1] == "range" {
								faults = all[len(all)-1:]
							}
						}
						n++
						for i := range faults {
							faults[i].Times = times
						}
						want := fmt.Sprintf("%q reads back from the SSD different from the source in bytes [%d, %d)", spot.file, spot.from, spot.to)
						if err := copyWithLies(disk, h, flags, faults, want); err != nil {
							t.Fatalf("byte %d of %s is %s (%d times): %v", spot.at, spot.file, lie, times, err)
						}
					}
				}
			}
		}
		count("lies of the disk", n)
	})
}

// copyWithLies copies while the disk lies. A second try repairs a single lie. Two lies,
// or lies that last, must be reported with the text named.
func copyWithLies(disk *faultfs.FS, h *host, flags []string, faults []faultfs.Fault, named string) error {
	return tryCopy(disk, h, fmt.Sprint(faults), injectFaults(disk, faults...), flags, func(o outcome) error {
		if faults[0].Times == 1 {
			if o.status != 0 {
				return errors.New("a lie that does not last is an error")
			}
			return h.checkSound([]string{"a"})
		}
		if o.status != 3 || !strings.Contains(o.err, named) {
			return fmt.Errorf("want status 3 and %q", named)
		}
		return errors.Join(h.checkNotPublished(), h.checkTraceless())
	})
}

// namedFailures are failing calls of a first copy, with the text that the error must
// contain.
func namedFailures() []struct {
	fault faultfs.Fault
	named string
} {
	type failure = struct {
		fault faultfs.Fault
		named string
	}
	var all []failure
	for _, spot := range spots {
		at := faultfs.Fault{From: spot.at, To: spot.at + 1, Err: syscall.EIO}
		for _, c := range []struct {
			op    faultfs.Op
			named string
			in    string
		}{
			{faultfs.Read, "read", "source/shard"},
			{faultfs.Read, "read", "stage"},
			{faultfs.Write, "write", "stage"},
		} {
			at.Op, at.Name = c.op, c.in+"/"+spot.file
			all = append(all, failure{at, c.named + " $DISK/" + strings.Replace(c.in, "stage", "ssd/.shard_to_ssd/shard/stage", 1) + "/" + spot.file})
		}
	}
	for _, name := range []string{"stage/big", "stage/dir/device", "stage/dir/small", "stage/empty", "stage/dir", "stage", "manifest.new", "sums.xxh64.new"} {
		all = append(all, failure{faultfs.Fault{Op: faultfs.Sync, Name: name, Err: syscall.EIO}, "sync $DISK/ssd/.shard_to_ssd/shard/" + name})
	}
	return all
}

// A failure of the disk is reported with the call, the path and the offset.
func TestFailuresAreNamed(t *testing.T) {
	rounds(t, 0.03, func(t *testing.T, r *round) {
		disk, h := lyingHost(t, program(t))
		n := 0
		for _, flags := range copyWays() {
			for _, f := range namedFailures() {
				if !r.full && r.IntN(8) > 0 || f.fault.Op == faultfs.Write && flags[1] == "range" {
					continue
				}
				n++
				named := strings.ReplaceAll(f.named, "$DISK", disk.Dir)
				err := tryCopy(disk, h, fmt.Sprintf("%+v", f.fault), injectFaults(disk, f.fault), flags, func(o outcome) error {
					if err := checkErrorNames(o, &f.fault, named); err != nil {
						return err
					}
					return h.checkNotPublished()
				})
				if err != nil {
					t.Fatal(err)
				}
			}
		}
		count("I/O errors of the disk", n)
	})
}

var atOffset = regexp.MustCompile(`at offset (\d+): input/output error`)

// checkErrorNames wants the operation, the path and the cause in the error. For a transfer it
// wants the offset: that of the byte, or where its piece of up to a block began.
func checkErrorNames(o outcome, f *faultfs.Fault, named string) error {
	if o.status != 1 || !strings.Contains(o.err, named) || !strings.Contains(o.err, "input/output error") {
		return fmt.Errorf("want status 1 and %q", named)
	}
	if f.Op == faultfs.Sync {
		return nil
	}
	match := atOffset.FindStringSubmatch(o.err)
	if match == nil {
		return errors.New("no offset in the error")
	}
	if at, err := strconv.ParseInt(match[1], 10, 64); err != nil || f.From < at || f.From >= at+blockSize {
		return fmt.Errorf("want offset %d, or the start of its piece", f.From)
	}
	return nil
}

// The disk is full after any number of bytes: nothing is published, the user file is
// deleted, and with more space the same copy succeeds.
func TestFullAnywhere(t *testing.T) {
	rounds(t, 0.02, func(t *testing.T, r *round) {
		disk, h := lyingHost(t, program(t))
		const page, need = 4096, bigSize/4096 + 1 + 300_000/4096 + 1 + 2
		pages := []int{0, 1, 2, 3, 5, 8, 9, 10, 11, 12, need}
		for range map[bool]int{false: 8, true: 200}[r.full] {
			pages = append(pages, r.IntN(need+16))
		}
		for _, n := range pages {
			flags, hidden := copyWays()[r.IntN(len(copyWays()))], r.IntN(4) > 0
			disk.SetSize(disk.UsedBytes()+int64(n)*page, hidden)
			free := func() { disk.SetSize(256<<20, false) }
			fits := false
			err := tryCopy(disk, h, fmt.Sprintf("%d pages are free, hidden %v", n, hidden), free, flags, func(o outcome) error {
				if fits = o.status == 0; fits && n >= need { // the metadata needs some pages, too
					return h.checkSound([]string{"a"})
				}
				if o.status != 4 || !strings.Contains(o.err, "space") {
					return errors.New("want status 4")
				}
				return h.checkNotPublished()
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		count("full disks", len(pages))
	})
}

// refusals are features that a file system may lack, with the expected way of copying
// and of reading back. FUSE itself cannot clone.
var refusals = map[string]struct {
	faults   []faultfs.Fault
	engine   string // the requested engine
	used     string // the engine used for big
	readBack string
}{
	"nothing":               {nil, "auto", "direct", "direct"},
	"O_DIRECT":              {refuseCall(faultfs.OpenDirect, syscall.EINVAL), "direct", "buffered", "buffered"},
	"O_DIRECT, unsupported": {refuseCall(faultfs.OpenDirect, syscall.EOPNOTSUPP), "auto", "buffered", "buffered"},
	"direct writes":         {[]faultfs.Fault{{Op: faultfs.Write, Name: "stage/big", From: 0, To: 1, Times: 1, Err: syscall.EINVAL}}, "auto", "buffered", "direct"},
	"fallocate":             {refuseCall(faultfs.Fallocate, syscall.EOPNOTSUPP), "auto", "direct", "direct"},
	"fallocate, unknown":    {refuseCall(faultfs.Fallocate, syscall.ENOSYS), "auto", "direct", "direct"},
	"copy_file_range 0":     {[]faultfs.Fault{{Op: faultfs.CopyRange, Drop: true}}, "range", "buffered", "direct"},
	"copy_file_range 0 later": {[]faultfs.Fault{{Op: faultfs.CopyRange, Name: "stage/big", Skip: 2, Drop: true}},
		"range", "buffered", "direct"},
	// Only for big: the tool remembers EINVAL, so after it for a small file it would
	// not ask for big.
	"copy_file_range EINVAL": {[]faultfs.Fault{{Op: faultfs.CopyRange, Name: "stage/big", Err: syscall.EINVAL}},
		"range", "buffered", "direct"},
	"copy_file_range EPERM": {refuseCall(faultfs.CopyRange, syscall.EPERM), "range", "buffered", "direct"},
	"copy_file_range EBADF": {refuseCall(faultfs.CopyRange, syscall.EBADF), "range", "buffered", "direct"},
	"xattrs":                {refuseCall(faultfs.Xattr, syscall.EOPNOTSUPP), "auto", "direct", "direct"},
	"all": {slices.Concat(refuseCall(faultfs.OpenDirect, syscall.EINVAL), refuseCall(faultfs.Fallocate, syscall.EOPNOTSUPP),
		refuseCall(faultfs.CopyRange, syscall.EINVAL), refuseCall(faultfs.Xattr, syscall.EOPNOTSUPP)), "range", "buffered", "buffered"},
}

func refuseCall(op faultfs.Op, err syscall.Errno) []faultfs.Fault {
	return []faultfs.Fault{{Op: op, Err: err}}
}

// The tool replaces a feature that the file system lacks, and reports that.
func TestRefusals(t *testing.T) {
	disk, h := lyingHost(t, program(t))
	for name, c := range refusals {
		for _, jobs := range []string{"1", "4"} {
			flags := []string{"--engine", c.engine, "--jobs", jobs, "--json"}
			err := tryCopy(disk, h, "refused: "+name, injectFaults(disk, c.faults...), flags, func(o outcome) error {
				var result struct {
					Engines  map[string]struct{ Bytes int64 }
					ReadBack string `json:"read_back"`
				}
				if err := json.Unmarshal([]byte(o.out), &result); err != nil || o.status != 0 {
					return errors.Join(err, errors.New("want status 0"))
				}
				if result.ReadBack != c.readBack || result.Engines[c.used].Bytes < bigSize {
					return fmt.Errorf("want %s for big, read back %s; got %+v", c.used, c.readBack, result)
				}
				return h.checkSound([]string{"a"})
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	count("refusals", 2*len(refusals))
}

// records are files of the state dir that a first copy writes and reads. lockdir is not
// among them: the next call refuses a lock dir that differs from the recorded one, and
// names both.
var records = []string{"shard/plan", "shard/journal", "manifest.new"}

// The disk lies about the tool's own records. No wrong copy and no wrong record
// results: the tool fails, or the shard verifies.
func TestLiesAboutRecords(t *testing.T) {
	rounds(t, 0.02, func(t *testing.T, r *round) {
		disk, h := lyingHost(t, program(t))
		tries := 15
		if r.full {
			tries = 300
		}
		for i := range tries {
			op := []faultfs.Op{faultfs.Read, faultfs.Write}[r.IntN(2)]
			f := faultfs.Fault{Op: op, Name: records[i%len(records)], Times: r.IntN(2), Change: faultfs.RandomFlips(r.Uint64(), 1+r.Int64N(700))}
			remove := injectFaults(disk, f)
			disk.DropCache()
			o := runCommand(h.command("-c", "a", copyWays()[r.IntN(len(copyWays()))]...))
			remove()
			disk.DropCache()
			err := h.checkWhole()
			if v := runCommand(h.command("--verify", "")); err == nil && o.status == 0 && v.status != 0 {
				err = fmt.Errorf("it succeeded, but verify fails: %v", v)
			}
			if o.status != 0 {
				err = errors.Join(err, h.checkNotPublished(), h.checkRetry())
			} else if undone := runCommand(h.command("-r", "a")); undone.status != 0 {
				err = errors.Join(err, fmt.Errorf("removal: %v", undone))
			}
			if err = errors.Join(err, h.checkTraceless()); err != nil {
				t.Fatalf("%s of %s, times %d: %v\nthe first copy: %v", f.Op, f.Name, f.Times, err, o)
			}
		}
		count("lies about records", tries)
	})
}

// After publishing, blocks rot: --verify names each block. When the bytes are right
// again, the shard verifies.
func TestRotIsFound(t *testing.T) {
	disk, h := lyingHost(t, program(t))
	if o := runCommand(h.command("-c", "a")); o.status != 0 {
		t.Fatal(o)
	}
	for _, spot := range spots {
		path := "ssd/" + shardName + "/" + spot.file
		if err := disk.FlipOnDisk(path, spot.at); err != nil {
			t.Fatal(err)
		}
		disk.DropCache()
		want := fmt.Sprintf("content %s: bytes %d-%d", spot.file, spot.from, spot.to)
		if o := runCommand(h.command("--verify", "")); o.status != 3 || strings.TrimSpace(o.out) != want {
			t.Errorf("byte %d of %s: want status 3 and only %q: %v", spot.at, spot.file, want, o)
		}
		if err := disk.FlipOnDisk(path, spot.at); err != nil {
			t.Fatal(err)
		}
		count("rotten bits", 1)
	}
	disk.DropCache()
	if o := runCommand(h.command("--verify", "")); o.status != 0 {
		t.Error(o)
	}
}

// A slow disk slows down a copy and nothing else: another process still gives up
// waiting after its timeout, and a signal ends the copy.
func TestSlowDisk(t *testing.T) {
	disk, h := lyingHost(t, program(t))
	disk.SetRate(4<<20, 4<<20)
	c := h.command("-c", "a")
	var said strings.Builder
	c.Stderr = &said
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, func() bool { return pathExists(filepath.Join(h.stateDir(), "stage")) })
	if o := runCommand(h.command("-c", "b", "--lock-timeout", "200ms")); o.status != 5 {
		t.Errorf("another call: %v", o)
	}
	if err := c.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = c.Wait() // the state is checked below
	if got := statusOf(c.ProcessState); got != 128+int(syscall.SIGTERM) {
		t.Errorf("got status %d\n%s", got, &said)
	}
	disk.SetRate(0, 0)
	if err := errors.Join(h.checkNotPublished(), h.checkRetry()); err != nil {
		t.Error(err)
	}
	count("slow disks", 1)
}
