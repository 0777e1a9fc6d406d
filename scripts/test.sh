#!/usr/bin/env bash
# test.sh runs all tests. As root, on a Debian-like system, it installs the tools that
# the tests drive; otherwise it lists the tests that it leaves out. With
# SHARD_TO_SSD_TESTS=all a missing tool or a skipped test is a failure.
#
# It does not use Go's cache of test results, because that does not notice changes of
# tools and file systems. It shows one line for each package; the complete output is
# in logs/.
set -euo pipefail
cd "$(dirname "$0")/.."

. scripts/tools.sh

# report_skipped lists the skipped tests.
report_skipped() {
    local skipped
    skipped=$(grep -hE '^ *--- SKIP' "${logs[@]}" | sort -u || true)
    if [ -n "$skipped" ]; then
        echo "left out:"
        echo "$skipped"
        if all; then return 1; fi
    fi
}

install_tools
logs=(logs/test.log logs/bench.log)
mkdir -p logs
rm -f "${logs[@]}"
go vet ./...
race=(-race)
if ! command -v gcc >/dev/null || [ ! -e /usr/include/stdlib.h ]; then
    echo "left out, no C compiler: the race detector"
    race=()
fi
# These empty the page cache of the whole machine, which other tests measure.
emptying='/(bench|cmd/ssdbench)$'
# The package that takes the longest begins first, in parallel with the others.
longest='/internal/torture$'
mapfile -t others < <(go list ./... | grep -E "$longest"; go list ./... | grep -vE "$emptying|$longest")
mapfile -t those < <(go list ./... | grep -E "$emptying")
# The limit ends only tests that hang. On two idle cores no package takes more than
# six minutes, and a busy machine can be four times slower.
limit=30m
run_tests "${logs[0]}" "${race[@]}" -timeout "$limit" "${others[@]}"
run_tests "${logs[1]}" "${race[@]}" -timeout "$limit" -p 1 "${those[@]}"
report_skipped
echo "all tests took $SECONDS s"
