#!/usr/bin/env bash
# torture.sh TIME [SEED] runs complete and random rounds of internal/torture for about
# TIME (30m, 2h), and then all fuzz targets. It stops at the first broken promise and
# prints the command that repeats it. At the end it prints the number of trials of
# each kind. The complete output is in logs/torture.log.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/tools.sh

seconds=$(sed -nE 's/^([0-9]+)s$/\1/p; s/^([0-9]+)m$/\1*60/p; s/^([0-9]+)h$/\1*3600/p' <<<"$1")
[ -n "$seconds" ] || { echo "torture: want a time such as 90s, 30m or 8h, got $1" >&2; exit 2; }
seconds=$((seconds))
seed=${2:-$(date +%s)}

install_tools
mkdir -p logs
log=$PWD/logs/torture.log
: >"$log"

# Disk images in memory are faster, and these tests do not measure the speed of a disk.
if [ "$(id -u)" = 0 ] && [ "$(df --output=avail -k /dev/shm 2>/dev/null | tail -1)" -gt $((8 << 20)) ]; then
    export TMPDIR=/dev/shm
fi

# show prints the results, and after a failure the last 400 lines of the output.
show() {
    tee -a "$log" | awk '
        /^--- (PASS|SKIP)/ || /^tried:/ || /^ok  / || /^fuzz:/ { print; fflush() }
        /--- FAIL|^FAIL|^panic/ { failed = 1 }
        { line[n++ % 400] = $0 }
        END { if (failed) for (i = (n > 400 ? n - 400 : 0); i < n; i++) print line[i % 400] }'
}

echo "seed $seed"
# fuzz_all COUNT runs the targets that it reads from standard input, and prints the
# number of inputs.
fuzz_all() {
    local package target output tried inputs=0 each=$((seconds / 8 / $1))
    each=$((each > 0 ? each : 1)) # with 0 it would never end
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
echo "torture: no failure in $SECONDS seconds"
