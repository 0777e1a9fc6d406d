#!/usr/bin/env bash
# All tests. As root, on a Debian-like system, installs what they drive; otherwise
# says what is left out. With SHARD_TO_SSD_TESTS=all nothing may be left out: a
# missing tool, or a skipped test, is a failure.
#
# Nothing comes from Go's cache of results, which does not know of the tools and
# file systems that tests drive. The full output is in logs/; a line for each package
# is shown.
set -euo pipefail
cd "$(dirname "$0")/.."

. scripts/tools.sh

# report_skipped names the tests that were skipped.
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
# ssdbench empties the page cache of the whole machine, which other tests look at.
emptying='/(bench|cmd/ssdbench)$'
# What takes longest begins first, beside all others.
longest='/internal/torture$'
mapfile -t others < <(go list ./... | grep -E "$longest"; go list ./... | grep -vE "$emptying|$longest")
mapfile -t those < <(go list ./... | grep -E "$emptying")
run_tests "${logs[0]}" "${race[@]}" -timeout 20m "${others[@]}"
run_tests "${logs[1]}" "${race[@]}" -timeout 20m -p 1 "${those[@]}"
# Benchmarks run once, so that they work when somebody needs them.
go test "${race[@]}" -run '^$' -bench . -benchtime 1x ./copier ./verify ./bench/data
report_skipped
echo "all tests took $SECONDS s"
