#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Makes the Debian root in which the system tests boot: sh packaging/make-root.sh bookworm|trixie
# Prints its path. A root is made once and kept in the cache until this file changes.
# What stands in single quotes here is for apt and for the shells of mmdebstrap.
# shellcheck disable=SC2016
set -eu
# shellcheck source=packaging/lib.sh
. "$(dirname "$0")/lib.sh"

SUITE=${1:?which suite?}
# dbus and libpam-systemd are what a user manager needs; lsyncd is the old program, which we install next to.
PACKAGES=systemd,systemd-sysv,dbus,libpam-systemd,procps,python3,rsync,openssh-server,lsyncd,man-db,acl,attr,libcap2-bin
# These lie only in apt's cache: installing lsyncd-sd must bring them in, so a missing dependency shows.
DEPENDENCIES="python3-pyinotify python3-sdnotify python3-systemd python3-yaml"

# The mirrors that this machine's own apt uses, so that the roots come from wherever it is allowed to go.
mirror() {
    apt-get indextargets --format '$(REPO_URI)|$(LABEL)' 'Created-By: Packages' |
        sed -n "s,/*|$1\$,,p" | head -n 1
}

sources() {
    main=$(mirror Debian)
    security=$(mirror Debian-Security)
    [ -n "$main" ] || die "apt knows no Debian mirror; is /etc/apt/sources.list.d empty, or 'apt-get update' not run?"
    signed="[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]"
    printf 'deb %s %s %s main\n' "$signed" "$main" "$SUITE"
    [ -z "$security" ] || printf 'deb %s %s %s-security main\n' "$signed" "$security" "$SUITE"
}

# Proxies, retries and the like are needed to get there; hooks and index settings of this machine are not.
acquire_options() {
    apt-config dump --empty=no Acquire | grep -E '^Acquire::(http|https|Retries|Check-|ForceIPv)' || true
}

KEY=$(sha256sum < "$0" | cut -c 1-12)
ROOT=$CACHE/roots/$SUITE-$KEY
mkdir -p "$CACHE/roots"
exec 9>"$CACHE/roots/$SUITE.lock"
flock 9
if [ ! -d "$ROOT" ]; then
    say "making a root of $SUITE"
    rm -rf "$CACHE/roots/$SUITE"-* "$CACHE/roots/new-$SUITE"
    [ -n "$(mirror Debian)" ] || apt-get -qq update >&2
    sources > "$CACHE/roots/$SUITE.list"
    acquire_options > "$CACHE/roots/$SUITE.apt"
    mmdebstrap --quiet --mode=root --variant=minbase --include="$PACKAGES" \
        --aptopt="$CACHE/roots/$SUITE.apt" \
        --aptopt='Acquire::Languages "none"' --aptopt='APT::Install-Recommends "false"' \
        --skip=cleanup/apt \
        --customize-hook='rm -f "$1"/var/cache/apt/archives/*.deb' \
        --customize-hook="chroot \"\$1\" apt-get -qq install -y --download-only $DEPENDENCIES" \
        --customize-hook='echo 127.0.0.1 localhost > "$1/etc/hosts"' \
        --customize-hook='chroot "$1" passwd -q -d root' \
        --customize-hook='chroot "$1" systemctl -q mask systemd-networkd.service systemd-resolved.service' \
        --customize-hook='chroot "$1" systemctl -q disable apt-daily.timer apt-daily-upgrade.timer' \
        "$SUITE" "$CACHE/roots/new-$SUITE" "$CACHE/roots/$SUITE.list" >&2
    mv "$CACHE/roots/new-$SUITE" "$ROOT"
fi
printf '%s\n' "$ROOT"
