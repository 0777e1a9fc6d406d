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

// lyingHost is a host whose source, lock dir and SSD dir are on one faultfs.
func lyingHost(t testing.TB, bin string) (*faultfs.FS, *host) {
	t.Helper()
	testkit.NeedRoot(t)
	disk := faultfs.New(t, 256<<20)
	h := newHost(t, bin, filepath.Join(disk.Dir, "source"), disk.Dir)
	testkit.Apply(t, h.source,
		testkit.File("big", bigSize, 1), testkit.File("dir/medium", 300_000, 2),
		testkit.File("dir/small", 5000, 3), testkit.File("empty", 0, 4))
	disk.Sync()
	return disk, h
}

// big has two whole blocks and a piece of one.
const (
	blockSize = 4 << 20
	bigSize   = 2*blockSize + 700_001
)

// spots are bytes of the shard, each with the block that it is in.
var spots = []struct {
	file         string
	at, from, to int64
}{
	{"big", 0, 0, blockSize},
	{"big", blockSize + 1_234_567, blockSize, 2 * blockSize},
	{"big", bigSize - 1, 2 * blockSize, bigSize},
	{"dir/medium", 150_000, 0, 300_000},
	{"dir/small", 4999, 0, 5000},
}

// ways are engines and numbers of workers.
func ways() (all [][]string) {
	for _, engine := range []string{"auto", "direct", "buffered", "range"} {
		for _, jobs := range []string{"1", "4"} {
			all = append(all, []string{"--engine", engine, "--jobs", jobs})
		}
	}
	return all
}

// inject has all faults at work until the function returned is called.
func inject(disk *faultfs.FS, faults ...faultfs.Fault) (remove func()) {
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

// notPublished is what must hold after a first copy that failed.
func (h *host) notPublished() error {
	if _, err := os.Lstat(h.published()); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("it is published, or: %v", err)
	}
	if left := names(h.locks); len(left) > 0 {
		return fmt.Errorf("in the lock dir there is %q", left)
	}
	return h.private()
}

// tried runs one case on a host that has nothing on the SSD, and leaves it so.
func tried(disk *faultfs.FS, h *host, faults string, remove func(), flags []string, check func(outcome) error) error {
	disk.DropCache()
	o := run(h.command("-c", "a", flags...))
	err := check(o)
	remove()
	if err == nil && o.status != 3 { // then nothing was left, which was looked at
		err = h.retried(flags...)
	}
	if err != nil {
		return fmt.Errorf("%s, %q: %w\nthe first copy: %v", faults, flags, err, o)
	}
	return nil
}

// retried is what must hold when the disk works again: the same copy succeeds, and
// its removal leaves nothing.
func (h *host) retried(flags ...string) error {
	if o := run(h.command("-c", "a", flags...)); o.status != 0 {
		return fmt.Errorf("the copy again: %v", o)
	}
	if users, err := h.users(); err != nil || !slices.Equal(users, []string{"a"}) {
		return fmt.Errorf("after the copy again: the users are %q, %v", users, err)
	}
	if _, err := os.Lstat(h.published()); err != nil {
		return fmt.Errorf("after the copy again: %w", err)
	}
	if err := h.whole(); err != nil {
		return fmt.Errorf("after the copy again: %w", err)
	}
	if o := run(h.command("-r", "a")); o.status != 0 {
		return fmt.Errorf("its removal: %v", o)
	}
	return h.traceless()
}

// lies are ways to have another byte on the disk than was written.
func lies(file string, at int64) map[string][]faultfs.Fault {
	stage := "stage/" + file
	flip := faultfs.Flip(at)
	return map[string][]faultfs.Fault{
		"flipped when read":    {{Op: faultfs.Read, Name: stage, From: at, To: at + 1, Change: flip}},
		"flipped when written": {{Op: faultfs.Write, Name: stage, From: at, To: at + 1, Change: flip}, {Op: faultfs.CopyRange, Name: stage, From: at, To: at + 1, Change: flip}},
		"dropped":              {{Op: faultfs.Write, Name: stage, From: at, To: at + 1, Drop: true}, {Op: faultfs.CopyRange, Name: stage, From: at, To: at + 1, Drop: true}},
	}
}

// Damage is found before publishing, whatever way the data took. What was damaged
// once is copied again, and only once; what stays is named.
func TestLiesAreFound(t *testing.T) {
	rounds(t, 0.03, func(t *testing.T, r *round) {
		disk, h := lyingHost(t, program(t))
		n := 0
		for _, flags := range ways() {
			for _, spot := range spots {
				for lie, all := range lies(spot.file, spot.at) {
					for _, times := range []int{1, 2, 0} {
						if !r.full && r.IntN(8) > 0 || r.over() {
							continue
						}
						if flags[1] == "range" && times == 2 {
							continue // the second try takes another way
						}
						faults := all
						if times > 0 { // once in all: of the calls that the engine writes with
							faults = faults[:1]
							if flags[1] == "range" {
								faults = all[len(all)-1:]
							}
						}
						n++
						if err := lieOnce(disk, h, flags, faults, times, fmt.Sprintf("%q reads back from the SSD different from the source in bytes [%d, %d)", spot.file, spot.from, spot.to)); err != nil {
							t.Fatalf("byte %d of %s is %s (%d times): %v", spot.at, spot.file, lie, times, err)
						}
					}
				}
			}
		}
		count("lies of the disk", n)
	})
}

// lieOnce has the disk lie once, which a second try mends; twice; or, 0, for good.
func lieOnce(disk *faultfs.FS, h *host, flags []string, faults []faultfs.Fault, times int, named string) error {
	for i := range faults {
		faults[i].Times = times
	}
	return tried(disk, h, fmt.Sprint(faults), inject(disk, faults...), flags, func(o outcome) error {
		if times == 1 {
			if o.status != 0 {
				return errors.New("a lie that does not stay is an error")
			}
			return h.sound([]string{"a"})
		}
		if o.status != 3 || !strings.Contains(o.err, named) {
			return fmt.Errorf("wanted status 3 and %q", named)
		}
		return errors.Join(h.notPublished(), h.traceless())
	})
}

// failures are calls of a first copy with what its error must say.
func failures() []struct {
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
	for _, name := range []string{"stage/big", "stage/dir/medium", "stage/dir/small", "stage/empty", "stage/dir", "stage", "manifest.new", "sums.xxh64.new"} {
		all = append(all, failure{faultfs.Fault{Op: faultfs.Sync, Name: name, Err: syscall.EIO}, "sync $DISK/ssd/.shard_to_ssd/shard/" + name})
	}
	return all
}

// A disk that fails is said to: which call, of what, where.
func TestFailuresAreNamed(t *testing.T) {
	rounds(t, 0.03, func(t *testing.T, r *round) {
		disk, h := lyingHost(t, program(t))
		n := 0
		for _, flags := range ways() {
			for _, f := range failures() {
				if !r.full && r.IntN(8) > 0 || f.fault.Op == faultfs.Write && flags[1] == "range" {
					continue
				}
				n++
				named := strings.ReplaceAll(f.named, "$DISK", disk.Dir)
				err := tried(disk, h, fmt.Sprintf("%+v", f.fault), inject(disk, f.fault), flags, func(o outcome) error {
					if err := saysWhere(o, &f.fault, named); err != nil {
						return err
					}
					return h.notPublished()
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

// saysWhere looks for the operation, the path, the cause, and, of a transfer, the
// offset: it may be where the failing piece of up to a block began.
func saysWhere(o outcome, f *faultfs.Fault, named string) error {
	if o.status != 1 || !strings.Contains(o.err, named) || !strings.Contains(o.err, "input/output error") {
		return fmt.Errorf("wanted status 1 and %q", named)
	}
	if f.Op == faultfs.Sync {
		return nil
	}
	match := atOffset.FindStringSubmatch(o.err)
	if match == nil {
		return errors.New("no offset")
	}
	if at, err := strconv.ParseInt(match[1], 10, 64); err != nil || f.From < at || f.From >= at+blockSize {
		return fmt.Errorf("wanted offset %d, or where its piece begins", f.From)
	}
	return nil
}

// A disk that is full after any number of bytes: nothing is published, the user
// file is gone, and with more space the same copy succeeds.
func TestFullAnywhere(t *testing.T) {
	rounds(t, 0.02, func(t *testing.T, r *round) {
		disk, h := lyingHost(t, program(t))
		const page, need = 4096, bigSize/4096 + 1 + 300_000/4096 + 1 + 2
		pages := []int{0, 1, 2, 3, 5, 8, 9, 10, 11, 12, need}
		for range map[bool]int{false: 8, true: 200}[r.full] {
			pages = append(pages, r.IntN(need+16))
		}
		for _, n := range pages {
			flags, hidden := ways()[r.IntN(len(ways()))], r.IntN(4) > 0
			disk.SetSize(disk.Used()+int64(n)*page, hidden)
			free := func() { disk.SetSize(256<<20, false) }
			fits := false
			err := tried(disk, h, fmt.Sprintf("%d pages are free, hidden %v", n, hidden), free, flags, func(o outcome) error {
				if fits = o.status == 0; fits && n >= need { // the metadata takes some pages, too
					return h.sound([]string{"a"})
				}
				if o.status != 4 || !strings.Contains(o.err, "space") {
					return errors.New("wanted status 4")
				}
				return h.notPublished()
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		count("full disks", len(pages))
	})
}

// refusals are what a file system may not be able to do, how the copy then goes,
// and how it is read back. FUSE itself cannot clone.
var refusals = map[string]struct {
	faults   []faultfs.Fault
	engine   string // to ask for
	used     string // for big
	readBack string
}{
	"nothing":               {nil, "auto", "direct", "direct"},
	"O_DIRECT":              {refuse(faultfs.OpenDirect, syscall.EINVAL), "direct", "buffered", "buffered"},
	"O_DIRECT, unsupported": {refuse(faultfs.OpenDirect, syscall.EOPNOTSUPP), "auto", "buffered", "buffered"},
	"direct writes":         {[]faultfs.Fault{{Op: faultfs.Write, Name: "stage/big", From: 0, To: 1, Times: 1, Err: syscall.EINVAL}}, "auto", "buffered", "direct"},
	"fallocate":             {refuse(faultfs.Fallocate, syscall.EOPNOTSUPP), "auto", "direct", "direct"},
	"fallocate, unknown":    {refuse(faultfs.Fallocate, syscall.ENOSYS), "auto", "direct", "direct"},
	"copy_file_range 0":     {[]faultfs.Fault{{Op: faultfs.CopyRange, Drop: true}}, "range", "buffered", "direct"},
	"copy_file_range 0 later": {[]faultfs.Fault{{Op: faultfs.CopyRange, Name: "stage/big", Skip: 2, Drop: true}},
		"range", "buffered", "direct"},
	// Of big only: EINVAL is remembered, and if a small file had met it, big would not ask.
	"copy_file_range EINVAL": {[]faultfs.Fault{{Op: faultfs.CopyRange, Name: "stage/big", Err: syscall.EINVAL}},
		"range", "buffered", "direct"},
	"copy_file_range EPERM": {refuse(faultfs.CopyRange, syscall.EPERM), "range", "buffered", "direct"},
	"copy_file_range EBADF": {refuse(faultfs.CopyRange, syscall.EBADF), "range", "buffered", "direct"},
	"xattrs":                {refuse(faultfs.Xattr, syscall.EOPNOTSUPP), "auto", "direct", "direct"},
	"all": {slices.Concat(refuse(faultfs.OpenDirect, syscall.EINVAL), refuse(faultfs.Fallocate, syscall.EOPNOTSUPP),
		refuse(faultfs.CopyRange, syscall.EINVAL), refuse(faultfs.Xattr, syscall.EOPNOTSUPP)), "range", "buffered", "buffered"},
}

func refuse(op faultfs.Op, err syscall.Errno) []faultfs.Fault {
	return []faultfs.Fault{{Op: op, Err: err}}
}

// What a file system cannot do is done in another way, and said.
func TestRefusals(t *testing.T) {
	disk, h := lyingHost(t, program(t))
	for name, c := range refusals {
		for _, jobs := range []string{"1", "4"} {
			flags := []string{"--engine", c.engine, "--jobs", jobs, "--json"}
			err := tried(disk, h, "refused: "+name, inject(disk, c.faults...), flags, func(o outcome) error {
				var result struct {
					Engines  map[string]struct{ Bytes int64 }
					ReadBack string `json:"read_back"`
				}
				if err := json.Unmarshal([]byte(o.out), &result); err != nil || o.status != 0 {
					return errors.Join(err, errors.New("wanted status 0"))
				}
				if result.ReadBack != c.readBack || result.Engines[c.used].Bytes < bigSize {
					return fmt.Errorf("wanted %s for big, read back %s, got %+v", c.used, c.readBack, result)
				}
				return h.sound([]string{"a"})
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	count("refusals", 2*len(refusals))
}

// records are files of the state dir that a first copy writes and reads. Left out
// is lockdir: another path in it is refused by the next call, with both.
var records = []string{"shard/plan", "shard/journal", "manifest.new"}

// A disk that lies about the tool's own records makes no copy wrong, and no record
// of it: the tool fails, or the shard verifies.
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
			remove := inject(disk, f)
			disk.DropCache()
			o := run(h.command("-c", "a", ways()[r.IntN(len(ways()))]...))
			remove()
			disk.DropCache()
			err := h.whole()
			if v := run(h.command("--verify", "")); err == nil && o.status == 0 && v.status != 0 {
				err = fmt.Errorf("it succeeds, and then verify says: %v", v)
			}
			if o.status != 0 {
				err = errors.Join(err, h.notPublished(), h.retried())
			} else if undone := run(h.command("-r", "a")); undone.status != 0 {
				err = errors.Join(err, fmt.Errorf("removal: %v", undone))
			}
			if err = errors.Join(err, h.traceless()); err != nil {
				t.Fatalf("%s of %s, times %d: %v\nthe first copy: %v", f.Op, f.Name, f.Times, err, o)
			}
		}
		count("lies about records", tries)
	})
}

// What has rotted since it was published, --verify names to the block; what is put
// right again passes.
func TestRotIsFound(t *testing.T) {
	disk, h := lyingHost(t, program(t))
	if o := run(h.command("-c", "a")); o.status != 0 {
		t.Fatal(o)
	}
	for _, spot := range spots {
		path := "ssd/" + shardName + "/" + spot.file
		if err := disk.Rot(path, spot.at); err != nil {
			t.Fatal(err)
		}
		disk.DropCache()
		want := fmt.Sprintf("content %s: bytes %d-%d", spot.file, spot.from, spot.to)
		if o := run(h.command("--verify", "")); o.status != 3 || strings.TrimSpace(o.out) != want {
			t.Errorf("byte %d of %s: wanted status 3 and %q alone: %v", spot.at, spot.file, want, o)
		}
		if err := disk.Rot(path, spot.at); err != nil {
			t.Fatal(err)
		}
		count("rotten bits", 1)
	}
	disk.DropCache()
	if o := run(h.command("--verify", "")); o.status != 0 {
		t.Error(o)
	}
}

// A disk that is slow slows a copy and nothing else: whoever waits for the lock no
// longer than he likes, and a signal is heeded.
func TestSlowDisk(t *testing.T) {
	disk, h := lyingHost(t, program(t))
	disk.SetRate(4<<20, 4<<20)
	c := h.command("-c", "a")
	var said strings.Builder
	c.Stderr = &said
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { return exists(filepath.Join(h.state(), "stage")) })
	if o := run(h.command("-c", "b", "--lock-timeout", "200ms")); o.status != 5 {
		t.Errorf("another call: %v", o)
	}
	if err := c.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	c.Wait() //nolint:errcheck // its state is looked at
	if got := status(c.ProcessState); got != 128+int(syscall.SIGTERM) {
		t.Errorf("status %d\n%s", got, &said)
	}
	disk.SetRate(0, 0)
	if err := errors.Join(h.notPublished(), h.retried()); err != nil {
		t.Error(err)
	}
	count("slow disks", 1)
}
