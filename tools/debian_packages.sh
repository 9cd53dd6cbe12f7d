#!/bin/sh
# Installs Debian packages that are missing, when that is possible here (Debian or a descendant, as root).
#
# No service of theirs is started or enabled: the tests start their own servers, and a host must not gain a daemon by
# running them. Exit code 1 when something is still missing; then it says how to install it.
#
# usage: debian_packages.sh PACKAGE...
set -eu

installed() { [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

if ! command -v apt-get >/dev/null; then
    echo "not Debian: install these by hand if the tests should use them: $*" >&2
    exit 1
fi
missing=''
for package in "$@"; do
    installed "$package" || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ]; then
    echo "not root: for the whole of the tests, run: sudo apt-get install --no-install-recommends$missing" >&2
    exit 1
fi

# A package asks policy-rc.d before it starts its service; 101 is "no". One that is there already is the host's own.
policy=/usr/sbin/policy-rc.d
if ! [ -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 130' INT TERM
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi

echo "installing$missing" >&2
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086  # a list of names
install() { apt-get install --yes --quiet --no-install-recommends -o DPkg::Lock::Timeout=300 $missing >/dev/null </dev/null; }
# The lists of a new machine are empty or old; on one that is in use they are fetched only when they have to be.
install 2>/dev/null || { apt-get update --quiet -o DPkg::Lock::Timeout=300 >/dev/null && install; } || {
    echo "could not be installed:$missing" >&2
    exit 1
}
if command -v systemctl >/dev/null; then
    for package in $missing; do
        systemctl disable --quiet "$package.service" 2>/dev/null || true
    done
fi
