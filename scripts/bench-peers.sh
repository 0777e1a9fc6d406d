#!/usr/bin/env bash
# bench-peers.sh SIZE ROWS SAMPLES measures shard_to_ssd against other tools and writes
# docs/performance.md. `make bench-peers` builds the programs and runs it. As root, on a
# Debian-like system, it installs the other tools from the distribution. ROWS (1,2,13) and
# SAMPLES may be empty. BENCH_FLAGS has more flags for bin/bench-peers, see its --help.
#
# The samples stay in logs/bench-peers.json. After a change of the notes,
#   bin/bench-peers --from logs/bench-peers.json
# writes the report again.
set -euo pipefail
cd "$(dirname "$0")/.."

. scripts/tools.sh

[ "$(id -u)" = 0 ] || { echo "bench-peers: mounting file systems and dropping caches need root" >&2; exit 1; }
install_tools

mkdir -p logs
flags=(--size "$1" --raw logs/bench-peers.json)
repeat="make bench-peers SIZE=$1"
if [ -n "${2:-}" ]; then
    flags+=(--rows "$2")
    repeat+=" ROWS=$2"
fi
if [ -n "${3:-}" ]; then
    flags+=(--samples "$3")
    repeat+=" SAMPLES=$3"
fi
if [ -n "${BENCH_FLAGS:-}" ]; then
    repeat+=" BENCH_FLAGS='$BENCH_FLAGS'"
fi
# exec, so that signals reach bench-peers.
# shellcheck disable=SC2086 # several flags
exec bin/bench-peers "${flags[@]}" --repeat "$repeat" ${BENCH_FLAGS:-}
