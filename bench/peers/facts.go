package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// fact is something about the machine that a reader must know.
type fact struct{ What, Value string }

// factsOf asks the machine; dir is where the images are.
func factsOf(ctx context.Context, dir string) []fact {
	return []fact{
		{"measured", time.Now().UTC().Format("2006-01-02 15:04 UTC")},
		{"kernel", said(ctx, "uname", "-srm")},
		{"system", field("/etc/os-release", "PRETTY_NAME", "=")},
		{"CPU", fmt.Sprintf("%s, %d of them", field("/proc/cpuinfo", "model name", ":"), runtime.NumCPU())},
		{"memory", memory()},
		{"touching memory that was free", touch()},
		{"virtual machine", virtual(ctx)},
		{"disk", diskBelow(ctx, dir)},
		{"file system below the images", said(ctx, "findmnt", "-n", "-o", "FSTYPE,OPTIONS", "-T", dir)},
	}
}

// said is the first line of what a program says of itself.
func said(ctx context.Context, name string, args ...string) string {
	out, _ := exec.CommandContext(ctx, name, args...).CombinedOutput()
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	if line == "" {
		return "unknown"
	}
	return strings.Join(strings.Fields(line), " ")
}

// field is a value of a file of lines "name = value".
func field(path, name, separator string) string {
	text, _ := os.ReadFile(path)
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, separator); ok && strings.TrimSpace(key) == name {
			return strings.Trim(strings.TrimSpace(value), `"`)
		}
	}
	return "unknown"
}

func memory() string {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return "unknown"
	}
	return fmt.Sprintf("%.1f GiB", float64(info.Totalram)*float64(info.Unit)/float64(gib))
}

// mostTouched is how much memory touch takes, if there is four times as much: more than a
// kernel keeps at hand that gives what is free back to its hypervisor.
const mostTouched = 4 * gib

// touch measures what a contender pays for each page of memory that it is the first to use,
// as the page cache is. Where a hypervisor takes free memory away and brings it back when
// it is touched, that can be more than what is written into it costs.
func touch() string {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return "unknown"
	}
	size := min(mostTouched, roundUp(int64(info.Freeram)*int64(info.Unit)/4, mib))
	memory, err := unix.Mmap(-1, 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return "unknown"
	}
	defer unix.Munmap(memory) //nolint:errcheck // it is ours
	page := os.Getpagesize()
	start := time.Now()
	for i := 0; i < len(memory); i += page {
		memory[i] = 1
	}
	each := time.Since(start) / time.Duration(len(memory)/page)
	return fmt.Sprintf("%.1f µs for a page of %d KiB, %.1f s for a GiB", float64(each.Nanoseconds())/1000, page>>10,
		each.Seconds()*float64(gib)/float64(page))
}

// virtual is asked of systemd, where there is one, else of the CPU's flags.
func virtual(ctx context.Context) string {
	if kind := said(ctx, "systemd-detect-virt", "--vm"); !strings.Contains(kind, " ") && kind != "unknown" && kind != "none" {
		return kind
	}
	if strings.Contains(field("/proc/cpuinfo", "flags", ":"), "hypervisor") {
		return "yes"
	}
	return "none that can be seen"
}

// diskBelow describes the block device that the directory is on.
func diskBelow(ctx context.Context, dir string) string {
	name := filepath.Base(said(ctx, "findmnt", "-n", "-o", "SOURCE", "-T", dir))
	at, err := filepath.EvalSymlinks("/sys/class/block/" + name)
	if err != nil {
		return "no block device"
	}
	if _, err := os.Stat(filepath.Join(at, "partition")); err == nil {
		at = filepath.Dir(at)
	}
	read := func(path string) string {
		text, _ := os.ReadFile(filepath.Join(at, path))
		return strings.TrimSpace(string(text))
	}
	model := strings.TrimSpace(read("device/vendor") + " " + read("device/model"))
	if driver, err := filepath.EvalSymlinks(filepath.Join(at, "device/driver")); err == nil {
		model += " (driver " + filepath.Base(driver) + ")"
	}
	return fmt.Sprintf("%s, rotational %s, scheduler %s, requests up to %s KiB", strings.TrimSpace(model),
		read("queue/rotational"), read("queue/scheduler"), read("queue/max_sectors_kb"))
}

// versionsOf asks all programs that take part.
func versionsOf(ctx context.Context, builds []build) (facts []fact) {
	for _, b := range builds {
		name := ours
		if b.label != "" {
			name += " (" + b.label + ")"
		}
		facts = append(facts, fact{name, said(ctx, b.path, "--version")})
	}
	for _, tool := range [][]string{
		{"fio", "--version"}, {"cp", "--version"}, {"rsync", "--version"}, {"rclone", "version"}, {"fpsync", "-h"},
		{"fpart", "-V"}, {"tar", "--version"}, {"mkfs.ext4", "-V"}, {"mkfs.xfs", "-V"}, {"mkfs.btrfs", "-V"},
	} {
		facts = append(facts, fact{tool[0], said(ctx, tool[0], tool[1:]...)})
	}
	return facts
}
