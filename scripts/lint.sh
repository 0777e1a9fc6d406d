#!/usr/bin/env bash
# lint.sh [offline] checks the source without running it. The tools are pinned here
# and installed in bin/tools, so that go.mod lists only the modules of the program.
# With offline nothing is installed and no network is used: a tool that is not
# installed is left out, and so is govulncheck, which needs a database.
set -euo pipefail
cd "$(dirname "$0")/.."

staticcheck=honnef.co/go/tools/cmd/staticcheck@v0.8.2
errcheck=github.com/kisielk/errcheck@v1.30.0
govulncheck=golang.org/x/vuln/cmd/govulncheck@v1.9.0
mode=${1:-}

# installed PIN reports whether bin/tools has the tool in that version, built by
# this version of Go: an older one may not parse the source.
installed() {
    local built
    built=$(go version -m "bin/tools/$(basename "${1%@*}")" 2>/dev/null) &&
        grep -q ": $(go env GOVERSION)\$" <<<"$built" &&
        grep -q "^	path	${1%@*}\$" <<<"$built" &&
        grep -q "^	mod	[^	]*	${1#*@}	" <<<"$built"
}

# provide PIN installs a tool that is not there. It fails if it may not, and ends
# the script if it cannot.
provide() {
    if installed "$1"; then return; fi
    if [ "$mode" = offline ]; then
        echo "left out: $(basename "${1%@*}"), which make lint installs"
        return 1
    fi
    GOBIN="$PWD/bin/tools" go install "$1" || exit 1
}

# refuse_join names errors.Join outside internal/errs: it puts newlines into
# messages, which are one line each.
refuse_join() {
    local found
    found=$(grep -rn --include='*.go' --exclude='*_test.go' --exclude-dir=errs 'errors\.Join(' . || true)
    if [ -n "$found" ]; then
        echo "use errs.Join of internal/errs instead of errors.Join, which puts newlines into messages:"
        echo "$found"
        return 1
    fi
}

# run_govulncheck succeeds if the database cannot be reached. The status for
# vulnerabilities is 3.
run_govulncheck() {
    local status=0 output
    output=$(bin/tools/govulncheck ./... 2>&1) || status=$?
    if [ "$status" = 0 ]; then return; fi
    if [ "$status" != 3 ] && grep -q 'fetching vulnerabilities' <<<"$output"; then
        echo "left out: govulncheck, which cannot reach its database"
        return
    fi
    echo "$output"
    return 1
}

unformatted=$(gofmt -l .)
if [ -n "$unformatted" ]; then
    echo "gofmt would change:"
    echo "$unformatted"
    exit 1
fi
go vet ./...
go vet -tags faults ./internal/sys
refuse_join
mkdir -p bin/tools
if provide "$staticcheck"; then
    bin/tools/staticcheck ./...
    bin/tools/staticcheck -tags faults ./internal/sys
fi
if provide "$errcheck"; then
    # It asks for each error that is ignored: write `_ = call()`, or see the file.
    bin/tools/errcheck -ignoretests -exclude scripts/errcheck.txt ./...
    bin/tools/errcheck -ignoretests -exclude scripts/errcheck.txt -tags faults ./internal/sys
fi
if [ "$mode" = offline ]; then
    echo "left out: govulncheck, which needs the network"
    exit
fi
provide "$govulncheck"
run_govulncheck
