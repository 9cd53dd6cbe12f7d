#!/bin/sh
# Fetches a Prometheus 3 for the tests, beside the one that this Debian has: that of a later release, from the mirror
# that this machine uses. It is unpacked into a folder, and nothing is installed.
#
# Exit code 1 when it cannot be had; then it says why, and the tests that need it are not run.
#
# usage: prometheus_3.sh FOLDER
set -eu

release=forky
folder=$1
binary=$folder/usr/bin/prometheus

fail() {
    echo "no Prometheus 3, so nothing is tested with one: $*" >&2
    exit 1
}

if [ -x "$binary" ]; then exit 0; fi
command -v apt-get >/dev/null || fail 'this is no Debian'
# shellcheck disable=SC2016  # apt-get expands it
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 2>/dev/null | grep -v security | head -n 1)
[ -n "$mirror" ] || fail 'apt-get knows no mirror'

mkdir -p "$folder/apt/lists/partial" "$folder/apt/cache/archives/partial"
apt_folder=$(cd "$folder/apt" && pwd)
trap 'rm -rf "$apt_folder"' EXIT
trap 'exit 130' INT TERM
echo "deb $mirror $release main" >"$apt_folder/sources.list"
own_apt() {
    apt-get --quiet --quiet -o "Dir::Etc::SourceList=$apt_folder/sources.list" -o Dir::Etc::SourceParts=/dev/null \
        -o "Dir::State::Lists=$apt_folder/lists" -o "Dir::Cache=$apt_folder/cache" -o APT::Sandbox::User= \
        -o Acquire::Languages=none "$@"
}
own_apt update >"$apt_folder/log" 2>&1 || fail "$(tail -n 1 "$apt_folder/log")"
(cd "$apt_folder" && own_apt download prometheus >log 2>&1) || fail "$(tail -n 1 "$apt_folder/log")"
dpkg-deb --extract "$apt_folder"/prometheus_*.deb "$folder"
case $("$binary" --version 2>&1 | head -n 1) in
    *' version 3.'*) ;;
    *) rm -f "$binary"; fail "that of $release does not run here, or is another version" ;;
esac
