#!/usr/bin/env bash
# What can be said of the source without running it. The tools are pinned here and
# installed in bin/tools, so that go.mod lists only what the program is made of.
set -euo pipefail
cd "$(dirname "$0")/.."

staticcheck=honnef.co/go/tools/cmd/staticcheck@v0.8.2
govulncheck=golang.org/x/vuln/cmd/govulncheck@v1.9.0

unformatted=$(gofmt -l .)
if [ -n "$unformatted" ]; then
    echo "gofmt would change:"
    echo "$unformatted"
    exit 1
fi
go vet ./...
go vet -tags faults ./internal/sys
mkdir -p bin/tools
GOBIN="$PWD/bin/tools" go install "$staticcheck"
bin/tools/staticcheck ./...
bin/tools/staticcheck -tags faults ./internal/sys

# govulncheck asks a database on the network: without one, that is all to be said.
# Its status for vulnerabilities is 3; any other failure that does not speak of
# fetching is a failure too.
GOBIN="$PWD/bin/tools" go install "$govulncheck"
status=0
said=$(bin/tools/govulncheck ./... 2>&1) || status=$?
case $status in
0) ;;
3)
    echo "$said"
    exit 1
    ;;
*)
    if ! grep -q 'fetching vulnerabilities' <<<"$said"; then
        echo "$said"
        exit 1
    fi
    echo "left out: govulncheck, which cannot reach its database"
    ;;
esac
