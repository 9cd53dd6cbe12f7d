#!/bin/sh
# Runs the fast tests on each Python from 3.11 on that this machine has, but for the one that all other tests run on.
# Each gets an environment of its own beside the usual one, with the same pins.
#
# usage: other_pythons.sh VENV
set -eu

venv=$1
here=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
cd "$here"

version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }

# An interpreter of that version: on the PATH, or among those that pyenv keeps.
find_python() {
    for candidate in "python$1" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python; do
        if [ "$(version_of "$candidate")" = "$1" ] && "$candidate" -c 'import ensurepip, venv' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
}

usual=$(version_of "$venv/bin/python" || true)
for version in 3.11 3.12 3.13 3.14; do
    if [ "$version" = "$usual" ]; then continue; fi
    python=$(find_python "$version")
    if [ -z "$python" ]; then
        echo "Python $version: not on this machine, so nothing is tested with it"
        continue
    fi
    echo "Python $version:"
    PYTHON=$python sh tools/make_venv.sh "$venv-$version" test,cluster,demo
    "$venv-$version/bin/python" -m pytest -q -n "${FAST_JOBS:-2}" -m 'not slow' --hypothesis-profile=fast tests/unit tests/flow
done
