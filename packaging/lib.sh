# SPDX-License-Identifier: GPL-2.0-or-later
# What the scripts of this folder share; they read it with `.` and have set `set -eu` themselves.
# shellcheck shell=sh

TOP=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck disable=SC2034
CACHE=${LSYNCD_SD_CACHE:-$TOP/.cache}

# Debian's interpreter and tools first: the packages we use live in /usr/lib/python3, where an interpreter
# that somebody put earlier into PATH (pyenv, conda) does not look.
PATH=/usr/sbin:/usr/bin:/sbin:/bin:$PATH
export PATH

# What the daemon runs on, the same on every machine: Debian's packages.
# shellcheck disable=SC2034
RUNTIME_PACKAGES="python3 python3-pyinotify python3-sdnotify python3-systemd python3-yaml rsync openssh-client"

# What the package is built with.
# shellcheck disable=SC2034
BUILD_PACKAGES="build-essential debhelper dh-python pybuild-plugin-pyproject python3-setuptools python3-yaml scdoc git"

say() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
}

die() {
    say "$*"
    exit 1
}

missing_packages() {
    for package in "$@"; do
        case $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) in
            installed) ;;
            *) printf '%s ' "$package" ;;
        esac
    done
}

# Install those of the named packages that are not there; asks apt nothing when all are.
need_packages() {
    missing=$(missing_packages "$@")
    [ -n "$missing" ] || return 0
    [ "$(id -u)" = 0 ] || die "these packages are missing, and only root can install them: $missing"
    say "installing $missing"
    apt-get -qq update >&2
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $missing >&2
}
