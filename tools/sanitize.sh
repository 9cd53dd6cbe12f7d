#!/bin/sh
# Runs the tests of the compiled scan, the corpus and the fuzz on a scan that is built with the address and
# undefined-behaviour sanitizers: `tools/sanitize.sh VENV`. It needs gcc and Python's headers, and builds in a copy of
# the sources, so that nothing of it stays.
set -eu
cd -- "$(dirname -- "$0")/.."
python=$1/bin/python
case $python in /*) ;; *) python=$PWD/$python ;; esac

copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
cp -R src "$copy/src"
scan=$copy/src/cdn77_exporter/core/scan
rm -f "$scan"/*.so
headers=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
gcc -std=gnu11 -O1 -g -fPIC -shared -fno-omit-frame-pointer -Wall -Wextra -Werror \
    -fsanitize=address,undefined -fno-sanitize-recover=all -I"$headers" -o "$scan/_scan.abi3.so" "$scan/_scan.c"

# With Python's own allocator a piece of a file would lie amid other memory, and a read behind its end be no fault.
export PYTHONMALLOC=malloc PYTHONPATH="$copy/src:$PWD"
LD_PRELOAD=$(gcc -print-file-name=libasan.so)
ASAN_OPTIONS=detect_leaks=0:abort_on_error=0 UBSAN_OPTIONS=print_stacktrace=1
export LD_PRELOAD ASAN_OPTIONS UBSAN_OPTIONS
"$python" -m tests.fuzz_scan --lines "${FUZZ_LINES:-20000}"
"$python" -m pytest -q -p no:cacheprovider --hypothesis-profile=fast -m 'not slow' -k 'not pure' \
    tests/unit/test_scan.py tests/unit/test_decode_corpus.py tests/unit/test_decode_fuzz.py
