package sys

import (
	"testing"

	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/testkit"
)

func TestPeakMemory(t *testing.T) {
	if err := ResetPeakMemory(); err != nil {
		t.Fatal(err)
	}
	before, err := PeakMemory()
	if err != nil {
		t.Fatal(err)
	}
	const size = 64 << 20
	buf, err := AllocBuffer(size)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < size; i += 4096 {
		buf[i] = 1
	}
	if err := FreeBuffer(buf); err != nil {
		t.Fatal(err)
	}
	after, err := PeakMemory()
	if grown := after - before; err != nil || grown < size*9/10 || grown > size*3/2 {
		t.Errorf("the peak grew by %d bytes, %v, want about %d", grown, err, size)
	}
	if err := ResetPeakMemory(); err != nil {
		t.Fatal(err)
	}
	if again, err := PeakMemory(); err != nil || again > after-size/2 {
		t.Errorf("got %d bytes after the reset, %v, want much less than %d", again, err, after)
	}
}

func TestCPUTimeGrows(t *testing.T) {
	before, err := CPUTime()
	if err != nil {
		t.Fatal(err)
	}
	for now := before; now == before; { // until the kernel's clock ticks
		if now, err = CPUTime(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestShared(t *testing.T) {
	for _, fs := range testkit.FileSystemsOf(t, 320<<20) {
		t.Run(fs.Name, func(t *testing.T) {
			testkit.Apply(t, fs.Dir, testkit.File("a", 8<<20, 1), testkit.File("empty", 0, 1))
			d := mustOpenDir(t, fs.Dir)
			a := mustOpen(t, d, "a", unix.O_RDONLY)
			clones := fs.Name == "xfs" || fs.Name == "btrfs"
			expectShared(t, a, false, fs.Name != "tmpfs")
			expectShared(t, mustOpen(t, d, "empty", unix.O_RDONLY), false, fs.Name != "tmpfs")
			if !clones {
				return
			}
			b := mustOpen(t, d, "b", unix.O_RDWR|unix.O_CREAT)
			if err := b.CloneFrom(a); err != nil {
				t.Fatal(err)
			}
			expectShared(t, a, true, true)
			expectShared(t, b, true, true)
		})
	}
}

func expectShared(t *testing.T, f *File, shared, known bool) {
	t.Helper()
	gotShared, gotKnown, err := f.SharesExtents()
	if err != nil || gotShared != shared || gotKnown != known {
		t.Errorf("%s: got shared %v, known %v, %v, want %v, %v", f.Path(), gotShared, gotKnown, err, shared, known)
	}
}

func mustOpen(t *testing.T, d *File, name string, flags int) *File {
	t.Helper()
	f, err := d.OpenAt(name, flags, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}
