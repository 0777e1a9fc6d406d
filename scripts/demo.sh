#!/usr/bin/env bash
# demo.sh PROGRAM lets two services share a sample shard. It shows the commands, their
# output (all on standard output, to keep the order), and the bytes of the user file.
# It fails if a result is not as expected.
set -euo pipefail

PATH="$(cd "$(dirname "$1")" && pwd):$PATH"
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

# The sample is a directory with a few files of a search shard.
mkdir -p lockdir ssddir data/shard2/segments
for segment in 1 2 3; do
    head -c 5000000 /dev/urandom >"data/shard2/segments/$segment.bin"
done
echo 'format 1' >data/shard2/index.meta

# step COMMAND... shows a command and runs it.
step() {
    echo
    echo "\$ $*"
    "$@" 2>&1
}

# users EXPECTED shows the bytes of the user file and compares them.
users() {
    echo "\$ od -An -c lockdir/shard2.lock"
    od -An -c lockdir/shard2.lock
    printf '%s' "$1" | cmp - lockdir/shard2.lock
}

step shard_to_ssd -c -l lockdir -s ssddir -i instance1 data/shard2
users instance1
diff -r data/shard2 ssddir/shard2

step shard_to_ssd -c -l lockdir -s ssddir -i instance2 data/shard2
users $'instance1\ninstance2'

step shard_to_ssd -r -l lockdir -s ssddir -i instance1 data/shard2
users instance2
diff -r data/shard2 ssddir/shard2

step shard_to_ssd -r -l lockdir -s ssddir -i instance2 data/shard2
step ls lockdir ssddir
if [ -e lockdir/shard2.lock ] || [ -e ssddir/shard2 ]; then
    echo "demo: the last user was removed, but the shard or its user file is left" >&2
    exit 1
fi
