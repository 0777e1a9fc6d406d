# Functions of the scripts that run tests: they install the tools that tests drive,
# or name them, and run go test.

# Debian's su leaves mkfs out of PATH.
export PATH="$PATH:/usr/sbin:/sbin"

all() { [ "${SHARD_TO_SSD_TESTS:-}" = all ]; }

# missing prints the packages of the tools that are not installed.
missing() {
    local pair
    for pair in xxhsum:xxhash rsync:rsync strace:strace getfacl:acl setfattr:attr mkfs.xfs:xfsprogs \
        mkfs.btrfs:btrfs-progs mkfs.ext4:e2fsprogs gcc:gcc python3:python3 fio:fio rclone:rclone fpsync:fpart \
        /usr/bin/time:time chromium:chromium; do
        command -v "${pair%%:*}" >/dev/null || echo "${pair##*:}"
    done
    [ -e /usr/include/stdlib.h ] || echo libc6-dev # gcc does not depend on it
}

install_tools() {
    local packages
    mapfile -t packages < <(missing)
    if [ "${#packages[@]}" -gt 0 ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "installing ${packages[*]}"
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -qq </dev/null
        apt-get install -y -qq --no-install-recommends "${packages[@]}" </dev/null
        mapfile -t packages < <(missing)
    fi
    if [ "${#packages[@]}" -gt 0 ]; then
        echo "left out, not installed: tests that need ${packages[*]}"
        if all; then return 1; fi
    fi
    if [ "$(id -u)" != 0 ]; then
        echo "left out, not root: tests that mount file systems, change owners or set trusted attributes"
        if all; then return 1; fi
    fi
}

# run_tests LOG ARGS... runs go test. The log gets all output. Shown are one line for
# each package, and the whole output of a package that failed.
run_tests() {
    local log=$1
    shift
    go test -v -count=1 "$@" 2>&1 </dev/null | tee "$log" | awk '
        /^ok  \t/ || /^\?   \t/ || /^\t.*coverage: / { print; fflush(); lines = 0; next }
        { line[lines++] = $0 }
        /^FAIL/ { for (i = 0; i < lines; i++) print line[i]; fflush(); lines = 0 }
        END { for (i = 0; i < lines; i++) print line[i] }'
}
