package main

import (
	"fmt"
	"strings"
)

const helpHead = `usage: ssdbench run --target DIR [flags]
       ssdbench report [flags] RESULT…
       ssdbench compare OLD NEW
       ssdbench list

Measures how fast an SSD takes shards (large data directories), for how long, and
how results compare. It uses the copy engine of shard_to_ssd, cold caches, and data
that cannot be compressed.

Commands:
`

const helpTail = `
Flags of run:
  --target DIR      directory on the SSD; the run works in a new directory below it
                    and deletes that at the end
  --source DIR      real directory to copy in addition to the workloads (default: none)
  --profile P       quick, standard, sustained (default: quick); list describes them
  --size BYTES      size of the largest workload. The suffixes K or KiB, M, G, T are
                    powers of 1024; KB, MB, GB, TB are powers of 1000
                    (default: by profile)
  --engines E,…     copy engines (default: by profile)
  --blocks BYTES,…  bytes of one request, powers of two from 128K to 4M
                    (default: by profile)
  --jobs N,…        numbers of workers (default: by profile)
  --samples N       samples of each ceiling and copy (default: by profile)
  --share X         part of the free space that the sustained write fills, such as
                    0.3; it is written up to three times (default: by profile; quick
                    has no sustained write)
  --pause DURATION  pause before each sustained write (default: by profile)
  --seed N          seed of the order and the data (default: from the clock)
  --hide-serial     leave the serial number out of the result (default: off)
  --yes             allow a run that writes more than a tenth of the free space
                    (default: off)
  -o, --output FILE write the result to FILE (default: standard output). If the run
                    ends early and FILE exists, the result goes to FILE.partial
  --format F        json, benchfmt (default: json)

Flags of report:
  -o, --output FILE write the page to FILE (default: standard output)
  --format F        html; or benchfmt, the results one after another (default: html)

Exit status:
`

// helpText returns the text of --help.
func helpText() string {
	var text strings.Builder
	text.WriteString(helpHead)
	for _, c := range commandTable() {
		fmt.Fprintf(&text, "  %-8s %s\n", c.name, c.summary)
	}
	text.WriteString(helpTail)
	for _, row := range statusTable() {
		fmt.Fprintf(&text, "  %-6s %s\n", row.status, row.meaning)
	}
	return text.String()
}
