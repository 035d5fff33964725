#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Builds the Debian package from the files of this work tree: sh packaging/build-deb.sh [FOLDER [VERSION]]
# FOLDER is where it goes, default dist/; VERSION, default the changelog's, is for tests of upgrades.
# Prints the path of the package.
set -eu
# shellcheck source=packaging/lib.sh
. "$(dirname "$0")/lib.sh"

OUTPUT=${1:-$TOP/dist}
VERSION=${2:-}

# shellcheck disable=SC2086
need_packages $BUILD_PACKAGES

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/lsyncd-sd" "$work/home"

# Only what git has or would add: no cache, no environment, no earlier build. The checkout may be another user's.
git -C "$TOP" -c safe.directory="$TOP" ls-files -z --cached --others --exclude-standard > "$work/files"
tar -C "$TOP" --null --files-from "$work/files" -c | tar -C "$work/lsyncd-sd" --no-same-owner -x

cd "$work/lsyncd-sd"
[ -z "$VERSION" ] || sed -i "1s/(.*)/($VERSION)/" debian/changelog
if ! HOME="$work/home" DEB_BUILD_OPTIONS="${DEB_BUILD_OPTIONS:-}" \
    dpkg-buildpackage --build=binary --unsigned-changes --no-pre-clean > "$work/log" 2>&1; then
    cat "$work/log" >&2
    die "dpkg-buildpackage failed"
fi

mkdir -p "$OUTPUT"
built=$(basename "$work"/lsyncd-sd_*_all.deb)
cp "$work/$built" "$work"/lsyncd-sd_*.changes "$work"/lsyncd-sd_*.buildinfo "$OUTPUT/"
printf '%s\n' "$(cd "$OUTPUT" && pwd)/$built"
