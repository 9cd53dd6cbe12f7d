"""Memory that a large block took goes back to the system, no thread is idle, the search for cycles can be put off."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cdn77_exporter.runtime import without_collection

_SCRIPT = """
import threading
from cdn77_exporter.runtime import give_memory_back

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

taken = give_memory_back()

def take():
    blocks = [bytearray(b"x") * 1_000_000 for _ in range(64)]
    del blocks[:]

take()
threads = [threading.Thread(target=take) for _ in range(4)]
before = resident()
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(taken, (resident() - before) // 1_000_000)
"""


def test_large_blocks_of_any_thread_are_given_back() -> None:
    """After threads took and freed 256 MB, the process has no more than before, but for a few."""
    done = subprocess.run([sys.executable, "-c", _SCRIPT], capture_output=True, text=True, check=True, timeout=60)
    taken, megabytes = done.stdout.split()
    assert taken == "True"
    assert int(megabytes) < 8


def test_a_command_has_one_thread(tmp_path: Path) -> None:
    """Numpy starts none of its own in a command that counts."""
    script = f"""
import os
from cdn77_exporter.__main__ import main
main(["inspect", "--json", {str(tmp_path / "missing")!r}])
import numpy
print(len(os.listdir("/proc/self/task")))
"""
    environ = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60, env=environ
    )
    assert done.stdout.splitlines()[-1] == "1"


def test_the_search_for_cycles_goes_on_afterwards() -> None:
    """It is off inside, and afterwards what it was before, whatever happened."""
    assert gc.isenabled()
    with pytest.raises(ValueError, match="inside"), without_collection():
        assert not gc.isenabled()
        with without_collection():
            pass
        assert not gc.isenabled()
        raise ValueError("inside")
    assert gc.isenabled()
