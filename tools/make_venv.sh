#!/bin/sh
# Makes the virtual environment and installs the project into it with its pinned dependencies.
#
# usage: make_venv.sh FOLDER EXTRAS      such as: make_venv.sh .venv dev,demo
set -eu

folder=$1
extras=$2
here=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
cd "$here"

say() { printf '%s\n' "$*" >&2; }

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
    for candidate in "${PYTHON:-python3}" python3 python3.14 python3.13 python3.12 python3.11; do
        if command -v "$candidate" >/dev/null && new_enough "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    say "Python 3.11 or newer is needed and was not found."
    say "Debian 12 and newer: apt-get install python3 python3-venv"
    say "Elsewhere: name the interpreter, as in: make PYTHON=/path/to/python3.11"
    return 1
}

python=$(find_python)
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    # Debian ships these two apart from Python.
    sh tools/debian_packages.sh python3-venv || true
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        say "$python cannot make virtual environments."
        say "Debian: apt-get install python3-venv"
        exit 1
    fi
fi

if ! [ -x "$folder/bin/python" ] || ! new_enough "$folder/bin/python"; then
    "$python" -m venv --clear "$folder"
fi

# The build of the project itself uses the pins, too: pip gives this variable on to the isolated build environment.
PIP_CONSTRAINT="$here/constraints.txt"
PIP_DISABLE_PIP_VERSION_CHECK=1
export PIP_CONSTRAINT PIP_DISABLE_PIP_VERSION_CHECK
"$folder/bin/python" -m pip install --quiet --constraint constraints.txt --editable ".[$extras]"
