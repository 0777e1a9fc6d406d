#!/usr/bin/env bash
# check.sh runs the checks that take about a minute on any machine with Go: gofmt,
# go vet, lint without the network, and the tests that need no root, no mount and no
# other tool. It mounts nothing, even if it runs as root. At the end it lists the
# tests that it left out. The output of the tests is in logs/check.log.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/tools.sh

# These take the longest. make test runs them.
slow=(
    TestManyFilesInOneDirectory TestResumeOfADamagedStage TestHugeFiles # the root package
    TestManyDifferences TestShorterListKilled TestOddUserFiles          # internal/torture
    TestSignalLeavesNothing                                             # cmd/ssdbench
    TestRunStoppedLeavesNothing TestRunMeasuresEverything               # bench
)

# report_skipped counts the skipped tests by reason: the last message of each.
report_skipped() {
    awk '
        /^=== (RUN|CONT|NAME) / { test = $3; next }
        /^ +[a-z0-9_]+\.go:[0-9]+: / {
            sub(/^ +[^ ]+ /, "")
            reason[test] = $0
            if (/^left out .*needs root/) partly++
        }
        /^ *--- PASS: / { passed++ }
        /^ *--- SKIP: / {
            if (reason[$3] ~ /root/) root++
            else if (sub(/^needs tools: /, "", reason[$3])) {
                tools++
                n = split(reason[$3], names, " ")
                for (i = 1; i <= n; i++) if (!known[names[i]]++) list = list " " names[i]
            } else other = other "\nleft out: " $3 ", " reason[$3]
        }
        END {
            printf "passed: %d tests\n", passed
            printf "left out: %d tests that need root or a mount\n", root
            printf "left out: %d tests that need tools:%s%s\n", tools, list, other
            if (partly) printf "left out: all but one file system in %d tests\n", partly
        }' logs/check.log
    echo "left out, slow: ${slow[*]}"
    echo "left out: the race detector"
}

scripts/lint.sh offline
mkdir -p logs
export SHARD_TO_SSD_TESTS=check
skip=$(IFS='|'; echo "^(${slow[*]})\$")
# The packages that take the longest begin first.
longest='/(copier|cmd/.*|internal/torture)$|^[^/]*$'
mapfile -t packages < <(go list ./... | grep -E "$longest"; go list ./... | grep -vE "$longest")
run_tests logs/check.log -vet=off -timeout 5m -skip "$skip" "${packages[@]}"
report_skipped
echo "check took $SECONDS s; make test runs everything"
