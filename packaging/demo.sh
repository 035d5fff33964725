#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Shows lsyncd-sd at work on a fresh Debian, without installing it.
#   sh packaging/demo.sh                  on a scratch tree, ends by itself
#   sh packaging/demo.sh SOURCE TARGET    mirrors SOURCE to TARGET until Ctrl-C
# Installs what is missing from Debian's packages and makes .venv; everything else goes to a folder in /tmp.
set -eu
# shellcheck source=packaging/lib.sh
. "$(dirname "$0")/lib.sh"

DEMO_PACKAGES="python3-venv python3-setuptools python3-wheel"
DEADLINE_MS=60000
VENV=$TOP/.venv
LSYNCD_SD=$VENV/bin/lsyncd-sd

usage() {
    cat <<USAGE
usage: sh packaging/demo.sh [SOURCE TARGET]

Without arguments: mirrors a scratch tree, changes it, and shows how long each change takes to arrive.
With two: mirrors the directory SOURCE to TARGET until Ctrl-C. TARGET is a path, HOST:PATH (ssh), or
HOST::MODULE/PATH (rsync daemon). What TARGET holds and SOURCE does not is deleted there.
USAGE
}

wrong_use() {
    say "$*"
    exit 2
}

# ---- what it runs on

# An environment that belongs to another place or another Python would run other code than this tree's.
make_venv() {
    wanted="$(/usr/bin/python3 --version) $TOP"
    if [ "$(cat "$VENV/made-for" 2>/dev/null)" = "$wanted" ] && "$LSYNCD_SD" --version > /dev/null 2>&1; then
        return
    fi
    say "making .venv"
    rm -rf "$VENV"
    /usr/bin/python3 -m venv --system-site-packages "$VENV"
    "$VENV/bin/pip" install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e "$TOP" >&2
    printf '%s\n' "$wanted" > "$VENV/made-for"
}

# ---- the daemon

daemon=
scratch=

# `wait` ends early when a trapped signal comes: what counts is whether the daemon is still there.
wait_for_daemon() {
    status=0
    while kill -0 "$daemon" 2>/dev/null; do
        status=0
        wait "$daemon" || status=$?
    done
    daemon=
    return "$status"
}

stop_daemon() {
    kill -TERM "$daemon" 2>/dev/null || true
    wait_for_daemon
}

cleanup() {
    [ -z "$daemon" ] || stop_daemon || true
    [ -z "$scratch" ] || rm -rf "$scratch"
}

make_scratch() {
    scratch=$(mktemp -d)
    trap cleanup EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    # These make the whole of it run unprivileged, and beside an installed one.
    export RUNTIME_DIRECTORY="$scratch/run" STATE_DIRECTORY="$scratch/state" CONFIGURATION_DIRECTORY="$scratch"
}

yaml_text() {
    printf "'%s'" "$(printf '%s' "$1" | sed "s/'/''/g")"
}

# A delay of 1 s, so that nobody has to wait for what is to be seen.
write_configuration() {
    printf '%s: %s\n' source "$(yaml_text "$1")" target "$(yaml_text "$2")" delay 1 > "$scratch/demo.yaml"
}

# ---- with SOURCE and TARGET

absolute_source() {
    [ -e "$1" ] || wrong_use "there is no $1"
    [ -d "$1" ] || wrong_use "$1 is not a directory"
    (cd -- "$1" 2>/dev/null && pwd -P) || wrong_use "$1 cannot be entered"
}

absolute_target() {
    case ${1%%/*} in
        *:*) printf '%s\n' "$1"; return ;;
    esac
    if [ -d "$1" ]; then
        (cd -- "$1" && pwd -P)
    elif [ -e "$1" ]; then
        wrong_use "$1 is not a directory"
    else
        # Only the last folder is made by the first full sync.
        parent=$(dirname -- "$1")
        [ -d "$parent" ] || wrong_use "there is no $parent in which $(basename -- "$1") could be made"
        printf '%s/%s\n' "$(cd -- "$parent" && pwd -P)" "$(basename -- "$1")"
    fi
}

mirror() {
    case "$1$2" in
        *"
"*) wrong_use "a path with a line break needs a configuration file written by hand" ;;
    esac
    source=$(absolute_source "$1") || exit
    target=$(absolute_target "$2") || exit
    make_scratch
    write_configuration "$source" "$target"
    if ! "$LSYNCD_SD" check "$scratch/demo.yaml" > "$scratch/problems"; then
        cat "$scratch/problems" >&2
        exit 2
    fi
    cat <<TEXT
Mirroring $source to $target until Ctrl-C, each change 1 s after it was made.
What the target holds and the source does not is deleted on the target. In another terminal:

  RUNTIME_DIRECTORY=$RUNTIME_DIRECTORY $LSYNCD_SD status

TEXT
    "$LSYNCD_SD" run "$scratch/demo.yaml" &
    daemon=$!
    # Here the end that the user wants, and not one that cuts something off.
    trap 'kill -TERM "$daemon" 2>/dev/null || true' INT TERM HUP
    wait_for_daemon
}

# ---- without arguments

failed() {
    say "$*"
    say "this is what the daemon said:"
    cat "$scratch/log" >&2
    exit 1
}

milliseconds() {
    echo $(($(date +%s%N) / 1000000))
}

# Call the condition $2 until it is true, and print how long that took after $began.
wait_until() {
    until "$2"; do
        kill -0 "$daemon" 2>/dev/null || failed "the daemon has ended"
        [ $(($(milliseconds) - began)) -lt $DEADLINE_MS ] || failed "not within $((DEADLINE_MS / 1000)) s: $1"
        sleep 0.05
    done
    took=$(($(milliseconds) - began))
    printf '  after %2d.%02d s  %s\n' $((took / 1000)) $((took % 1000 / 10)) "$1"
}

# show TEXT CHANGE CONDITION: make a change, and wait for it on the target.
show() {
    began=$(milliseconds)
    "$2"
    wait_until "$1" "$3"
}

same() { cmp -s "$scratch/source/$1" "$scratch/target/$1"; }

is_in_sync() { "$LSYNCD_SD" status > "$scratch/status" 2>&1 && same letters/old.txt; }

create() { echo "a new file" > "$scratch/source/new.txt"; }
created() { same new.txt; }

edit() { echo "one more line" >> "$scratch/source/new.txt"; }
edited() { same new.txt; }

change_mode() { chmod 640 "$scratch/source/new.txt"; }
mode_changed() { [ "$(stat -c %a "$scratch/target/new.txt")" = 640 ]; }

make_tree() { mkdir -p "$scratch/source/a/b/c" && echo "deep" > "$scratch/source/a/b/c/file"; }
tree_made() { same a/b/c/file; }

rename() { mv "$scratch/source/letters" "$scratch/source/post"; }
renamed() { same post/old.txt && [ ! -e "$scratch/target/letters" ]; }

# A dash in front, a space, a line break, a tab, quotes, a byte that is not UTF-8, signs of shells and filters.
odd=$(printf -- "-#;] *?\n\t'\"\$(touch x)\377.txt")
make_odd() { echo "odd" > "$scratch/source/$odd"; }
odd_made() { same "$odd"; }

delete() { rm -r "$scratch/source/post"; }
deleted() { [ ! -e "$scratch/target/post" ]; }

demonstrate() {
    make_scratch
    mkdir "$scratch/source" "$scratch/source/letters" "$scratch/target"
    echo "from before the start" > "$scratch/source/letters/old.txt"
    write_configuration "$scratch/source" "$scratch/target"
    echo "The configuration, $scratch/demo.yaml:"
    echo
    sed 's/^/  /' "$scratch/demo.yaml"
    echo
    echo "Each change is collected for 1 s (delay: 1; the default is 5) and then mirrored:"
    echo
    began=$(milliseconds)
    "$LSYNCD_SD" run "$scratch/demo.yaml" 2> "$scratch/log" &
    daemon=$!
    wait_until "the start: what was there before (a full sync)" is_in_sync
    show "a file created" create created
    show "the file edited" edit edited
    show "its permissions changed" change_mode mode_changed
    show "a folder in a folder in a folder, with a file" make_tree tree_made
    show "a folder renamed" rename renamed
    show "a file with a very odd name" make_odd odd_made
    show "a folder deleted" delete deleted
    began=$(milliseconds)
    wait_until "in sync again" is_quiet
    echo
    echo "lsyncd-sd status:"
    echo
    "$LSYNCD_SD" status | sed 's/^/  /'
    differences=$(rsync --archive --dry-run --itemize-changes --checksum --delete \
        -- "$scratch/source/" "$scratch/target/")
    [ -z "$differences" ] || failed "source and target differ: $differences"
    stop_daemon || failed "the daemon ended with exit status $?"
    echo
    echo "What it has logged (as a service, to the journal):"
    echo
    sed 's/^/  /' "$scratch/log"
    echo
    echo "Source and target are the same: rsync --dry-run --checksum --delete finds nothing to do."
}

is_quiet() { "$LSYNCD_SD" status --json | grep -q '"state": "in-sync"'; }

main() {
    case ${1-} in
        -h | --help) usage; exit ;;
    esac
    case $# in
        0 | 2) ;;
        *) usage >&2; exit 2 ;;
    esac
    # shellcheck disable=SC2086
    need_packages $RUNTIME_PACKAGES $DEMO_PACKAGES
    make_venv
    if [ $# = 2 ]; then mirror "$1" "$2"; else demonstrate; fi
}

main "$@"
