#!/usr/bin/env bash
# torture.sh TIME [SEED] breaks the program in every way that the tests know, whole
# and at random, for about TIME (30m, 2h), and stops at the first promise that is
# broken, with what repeats it. Prints how much of each was tried. The output of
# all is in logs/torture.log.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/tools.sh

seconds=$(sed -nE 's/^([0-9]+)s$/\1/p; s/^([0-9]+)m$/\1*60/p; s/^([0-9]+)h$/\1*3600/p' <<<"$1")
[ -n "$seconds" ] || { echo "torture: $1: wanted a time such as 90s, 30m or 8h" >&2; exit 2; }
seconds=$((seconds))
seed=${2:-$(date +%s)}

install_tools
mkdir -p logs
log=$PWD/logs/torture.log
: >"$log"

# Images of disks in memory are faster, and nothing here is about the speed of one.
if [ "$(id -u)" = 0 ] && [ "$(df --output=avail -k /dev/shm 2>/dev/null | tail -1)" -gt $((8 << 20)) ]; then
    export TMPDIR=/dev/shm
fi

# Show what a reader waits for; after a failure all of it.
show() {
    tee -a "$log" | awk '
        /^--- (PASS|SKIP)/ || /^tried:/ || /^ok  / || /^fuzz:/ { print; fflush() }
        /--- FAIL|^FAIL|^panic/ { failed = 1 }
        { line[n++ % 400] = $0 }
        END { if (failed) for (i = (n > 400 ? n - 400 : 0); i < n; i++) print line[i % 400] }'
}

echo "seed $seed"
# fuzz_all COUNT runs the targets that it reads, and says how much it tried.
fuzz_all() {
    local package target output tried inputs=0 each=$((seconds / 8 / $1))
    each=$((each > 0 ? each : 1)) # 0 would be for ever
    output=$(mktemp)
    while read -r package target; do
        echo "fuzz: $target of $package, $each s"
        go test "$package" -run '^$' -fuzz "^$target\$" -fuzztime "${each}s" -fuzzminimizetime 1s </dev/null | tee "$output"
        tried=$(sed -nE 's/^fuzz: elapsed: .* execs: ([0-9]+) .*/\1/p' "$output" | tail -1)
        inputs=$((inputs + ${tried:-0}))
    done
    rm -f "$output"
    printf 'tried: %8d %s\n' $((each * $1)) "seconds of fuzzing" "$1" "fuzz targets" "$inputs" "fuzzed inputs"
}

go test -v -count=1 -failfast -timeout 0 ./internal/torture -torture "$((seconds * 7 / 8))s" -seed "$seed" </dev/null 2>&1 | show
targets=$(go list ./... | while read -r package; do
    go test "$package" -list '^Fuzz' | sed -n "s|^Fuzz|$package &|p"
done)
fuzz_all "$(wc -l <<<"$targets")" <<<"$targets" 2>&1 | show
echo "torture: nothing broke in $SECONDS seconds"
