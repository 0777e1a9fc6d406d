package main

import (
	"fmt"
	"strings"

	"shard_to_ssd/bench"
	"shard_to_ssd/copier"
)

// listCommand prints all workloads, engines and profiles.
func listCommand(h host, _, args []string) error {
	if len(args) > 0 {
		return &usageError{fmt.Sprintf("list: unexpected %q", args)}
	}
	var text strings.Builder
	text.WriteString("Workloads:\n")
	for _, w := range bench.Workloads() {
		fmt.Fprintf(&text, "  %-10s %s\n", w.Name, w.Purpose)
	}
	fmt.Fprintf(&text, "  %-10s %s\n", "source", "the real directory of --source")
	text.WriteString("\nEngines:\n")
	for _, e := range copier.Engines {
		fmt.Fprintf(&text, "  %-10s %s\n", e, engineText(e))
	}
	text.WriteString("\nProfiles:\n")
	for _, p := range bench.Profiles() {
		fmt.Fprintf(&text, "  %-10s %s\n", p.Name, p.Purpose)
	}
	_, err := fmt.Fprint(h.stdout, text.String())
	return err
}

// engineText describes an engine.
func engineText(e copier.Engine) string {
	switch e {
	case copier.Auto:
		return "the engine that shard_to_ssd chooses for each file"
	case copier.Clone:
		return "shares extents with the source: no data moves, so there is no result"
	case copier.Range:
		return "copy_file_range: the kernel or a file server copies"
	case copier.Direct:
		return "O_DIRECT, past the page cache; for large files"
	case copier.Buffered:
		return "through the page cache, which stays unchanged; for small files"
	}
	return ""
}
