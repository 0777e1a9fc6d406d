package peers

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"shard_to_ssd/bench"
	"shard_to_ssd/bench/facts"
	"shard_to_ssd/internal/humanize"
)

// fact is a line about the machine that readers of the report need.
type fact struct{ What, Value string }

// environmentOf describes the machine, and the disk with the images.
func environmentOf(ctx context.Context, dir string) ([]fact, error) {
	f, err := facts.Collect(dir, facts.Options{HideSerial: true})
	if err != nil {
		return nil, err
	}
	return []fact{
		{"measured", humanize.Time(time.Now())},
		{"kernel", "Linux " + orUnknown(f.Kernel)},
		{"system", osRelease()},
		{"CPU", fmt.Sprintf("%s, %s", orUnknown(f.CPU), humanize.Count(f.CPUs, "core"))},
		{"memory", memorySize(f)},
		{"touching free memory", touchMemory()},
		{"virtual machine", virtualMachine(ctx, f)},
		{"disk", describeDevice(f)},
		{"file system below the images", orUnknown(f.FileSystem) + " " + orUnknown(f.Mount)},
	}, nil
}

// virtualMachine asks systemd, which recognizes more kinds than package facts.
func virtualMachine(ctx context.Context, f bench.Facts) string {
	kind := firstLine(ctx, "systemd-detect-virt", "--vm")
	if kind == "unknown" || kind == "none" || strings.Contains(kind, " ") {
		return orElse(f.Virtual, "not detected")
	}
	return kind
}

func orUnknown(s *string) string { return orElse(s, "unknown") }

func orElse(s *string, otherwise string) string {
	if s == nil {
		return otherwise
	}
	return *s
}

// osRelease returns the name of the distribution.
func osRelease() string {
	text, _ := os.ReadFile("/etc/os-release")
	for line := range strings.Lines(string(text)) {
		if name, ok := strings.CutPrefix(line, "PRETTY_NAME="); ok {
			return strings.Trim(strings.TrimSpace(name), `"`)
		}
	}
	return "unknown"
}

func memorySize(f bench.Facts) string {
	if f.Memory == nil {
		return "unknown"
	}
	return humanize.Size(*f.Memory)
}

// describeDevice describes the block device below the images.
func describeDevice(f bench.Facts) string {
	if f.Device == nil {
		return "no block device"
	}
	rotational := "unknown"
	if f.Rotational != nil {
		rotational = fmt.Sprint(*f.Rotational)
	}
	text := fmt.Sprintf("%s, model %s, transport %s, rotational %s, scheduler %s", *f.Device, orUnknown(f.Model),
		orUnknown(f.Transport), rotational, orUnknown(f.Scheduler))
	if f.QueueDepth != nil {
		text += ", queue of " + humanize.Count(*f.QueueDepth, "request")
	}
	return text
}

// mostTouched limits the memory that touchMemory uses. It is more than the kernel keeps
// back where it returns free memory to the hypervisor.
const mostTouched = 4 * gib

// touchMemory measures how long the first access to a page of memory takes. A contender
// pays that for each page, and so does the page cache. Where the hypervisor takes free
// memory away and returns it at the first access, that can cost more than the write into
// the page. It uses at most a quarter of the free memory.
func touchMemory() string {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return "unknown"
	}
	size := min(mostTouched, roundUp(int64(info.Freeram)*int64(info.Unit)/4, mib))
	memory, err := unix.Mmap(-1, 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return "unknown"
	}
	defer func() { _ = unix.Munmap(memory) }() // unmapping own memory does not fail
	page := os.Getpagesize()
	start := time.Now()
	for i := 0; i < len(memory); i += page {
		memory[i] = 1
	}
	each := time.Since(start) / time.Duration(len(memory)/page)
	return fmt.Sprintf("%.1f µs per page of %d KiB, %.1f s per GiB", float64(each.Nanoseconds())/1000, page>>10,
		each.Seconds()*float64(gib)/float64(page))
}

// versionsOf asks all programs that take part for their versions.
func versionsOf(ctx context.Context, builds []Build) (list []fact) {
	for _, b := range builds {
		name := ours
		if b.Label != "" {
			name += " (" + b.Label + ")"
		}
		list = append(list, fact{name, firstLine(ctx, b.Path, "--version")})
	}
	for _, tool := range [][]string{
		{"fio", "--version"}, {"cp", "--version"}, {"rsync", "--version"}, {"rclone", "version"}, {"fpsync", "-h"},
		{"fpart", "-V"}, {"tar", "--version"}, {"mkfs.ext4", "-V"}, {"mkfs.xfs", "-V"}, {"mkfs.btrfs", "-V"},
	} {
		list = append(list, fact{tool[0], firstLine(ctx, tool[0], tool[1:]...)})
	}
	return list
}

// firstLine returns the first line of a program's output.
func firstLine(ctx context.Context, name string, args ...string) string {
	out, _ := exec.CommandContext(ctx, name, args...).CombinedOutput() // -h may have a status of its own
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	if line == "" {
		return "unknown"
	}
	return strings.Join(strings.Fields(line), " ")
}
