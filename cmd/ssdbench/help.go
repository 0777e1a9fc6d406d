package main

import (
	"fmt"
	"strings"
)

const helpHead = `usage: ssdbench run --target DIR [flags]
       ssdbench report [flags] RESULT…
       ssdbench compare OLD NEW
       ssdbench list

Says how fast an SSD takes shards, for how long, and how that compares: with the
copy engine of shard_to_ssd, on cold caches, with data that does not compress.

Commands:
`

const helpTail = `
Flags of run:
  --target DIR      a directory on the SSD; all is done in a new one in it, which is
                    deleted at the end
  --source DIR      copy this real directory as well (default: only made ones)
  --profile P       quick, standard, sustained (default: quick); list says what they are
  --size BYTES      of the largest workload. Suffixes K or KiB, M, G, T are powers of
                    1024, KB, MB, GB, TB of 1000 (default: by profile)
  --engines E,…     engines to copy with (default: by profile)
  --blocks BYTES,…  bytes of one request, powers of two from 128K to 4M
                    (default: by profile)
  --jobs N,…        workers (default: by profile)
  --samples N       of each ceiling and copy (default: by profile)
  --share X         part of the free space that a sustained write may fill, such as
                    0.3; it is written up to three times (default: by profile; quick
                    has none)
  --pause DURATION  how long the device rests before each (default: by profile)
  --seed N          of the order and the data (default: of the clock)
  --hide-serial     leave the serial number out of the result (default: off)
  --yes             allow to write more than a tenth of the free space (default: off)
  -o, --output FILE where the result goes (default: standard output); that of a run
                    that is ended early is FILE.partial, if FILE is there
  --format F        json, benchfmt (default: json)

Flags of report:
  -o, --output FILE where the page goes (default: standard output)
  --format F        html, or benchfmt, one result after the other (default: html)

Exit status:
`

// help is what --help prints.
func help() string {
	var text strings.Builder
	text.WriteString(helpHead)
	for _, c := range commands() {
		fmt.Fprintf(&text, "  %-8s %s\n", c.name, c.is)
	}
	text.WriteString(helpTail)
	for _, row := range statusTable() {
		fmt.Fprintf(&text, "  %-6s %s\n", row.status, row.meaning)
	}
	return text.String()
}
