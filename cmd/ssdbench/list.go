package main

import (
	"fmt"
	"strings"

	"shard_to_ssd/bench"
	"shard_to_ssd/bench/data"
	"shard_to_ssd/copier"
)

// listCommand prints what there is.
func listCommand(h host, _, args []string) error {
	if len(args) > 0 {
		return &usageError{fmt.Sprintf("list: unexpected %q", args)}
	}
	var text strings.Builder
	text.WriteString("Workloads:\n")
	for _, w := range data.Workloads(1 << 30) {
		fmt.Fprintf(&text, "  %-10s %s\n", w.Name, w.For)
	}
	fmt.Fprintf(&text, "  %-10s %s\n", "source", "the real directory of --source")
	text.WriteString("\nEngines:\n")
	for _, e := range copier.Engines {
		fmt.Fprintf(&text, "  %-10s %s\n", e, engineFor(e))
	}
	text.WriteString("\nProfiles:\n")
	for _, p := range bench.Profiles() {
		fmt.Fprintf(&text, "  %-10s %s\n", p.Name, p.For)
	}
	_, err := fmt.Fprint(h.stdout, text.String())
	return err
}

// engineFor says what an engine is for.
func engineFor(e copier.Engine) string {
	switch e {
	case copier.Auto:
		return "what shard_to_ssd chooses for each file"
	case copier.Clone:
		return "extents shared with the source: no data moves, so that it is no result"
	case copier.Range:
		return "copy_file_range: the kernel or a server copies"
	case copier.Direct:
		return "O_DIRECT, past the page cache: large files"
	case copier.Buffered:
		return "through the page cache, which is left as it was: small files"
	}
	return ""
}
