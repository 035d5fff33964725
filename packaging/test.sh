#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Runs all tests on a fresh Debian: sh packaging/test.sh [pytest arguments]
# Installs what they need first, makes .venv-test and the roots of the system tests. --full: the second profile.
set -eu
# shellcheck source=packaging/lib.sh
. "$(dirname "$0")/lib.sh"

TEST_PACKAGES="python3-venv python3-setuptools openssh-server procps acl attr mmdebstrap systemd systemd-container
    debian-archive-keyring lintian shellcheck man-db zsh bash-completion util-linux ca-certificates bindfs
    btrfs-progs xfsprogs e2fsprogs busybox"
# From PyPI: ruff is not in Debian, and the two releases have different versions of the others.
TEST_MODULES="pytest==9.2.0 pytest-timeout==2.4.0 pytest-xdist==3.8.0 hypothesis==6.170.15 mypy==2.4.1 ruff==0.17.6
    types-PyYAML==6.0.12.20261113"

# shellcheck disable=SC2086
need_packages $RUNTIME_PACKAGES $BUILD_PACKAGES $TEST_PACKAGES

cd "$TOP"
venv=$TOP/.venv-test
wanted="$(/usr/bin/python3 --version) $TEST_MODULES"
if [ "$(cat "$venv/made-for" 2>/dev/null)" != "$wanted" ]; then
    say "making .venv-test"
    rm -rf "$venv"
    /usr/bin/python3 -m venv --system-site-packages "$venv"
    # shellcheck disable=SC2086
    "$venv/bin/pip" install --quiet --disable-pip-version-check $TEST_MODULES
    printf '%s\n' "$wanted" > "$venv/made-for"
fi

# Here and not in the tests: their time limit is for hangs, not for downloads. Without root they are skipped.
if [ "$(id -u)" = 0 ]; then
    for release in bookworm trixie; do
        sh packaging/make-root.sh "$release" > /dev/null
    done
fi

run() {
    "$venv/bin/python" -m pytest "$@"
}

if [ $# -gt 0 ] && [ "$*" != --full ]; then
    run "$@"
    exit
fi

# All of them: the system tests mostly wait for their machines, so they run beside the others.
log=$(mktemp)
run "$@" tests/system > "$log" 2>&1 &
system=$!
trap 'kill "$system" 2> /dev/null || true; rm -f "$log"' EXIT
status=0
# Most of them wait for a daemon most of the time: several at once, though there may be but two processors.
run "$@" -n 4 --dist worksteal -m "not alone" --ignore tests/system || status=$?
wait "$system" || status=$?
cat "$log"
run "$@" -m alone || status=$?
exit "$status"
