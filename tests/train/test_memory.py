"""What the C library keeps between steps, seen by page faults of a process of its own."""

import os
import subprocess
import sys

import pytest

from nmsim.train.memory import keep_freed_memory

FAULTS = """
import resource, sys
import numpy as np
from nmsim.train.memory import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
def fill():
    np.empty(100 << 20, np.uint8).fill(1)
fill()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    fill()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(what: str, **environment: str) -> int:
    command = [sys.executable, "-c", FAULTS, what]
    return int(subprocess.run(command, env=os.environ | environment, capture_output=True, check=True, text=True).stdout)


def test_an_array_of_freed_memory_costs_no_page_faults():
    """100 MiB are 50 huge pages at least, and were taken four times anew."""
    if not keep_freed_memory():
        pytest.skip("the C library of this machine cannot be told, or was by the environment")
    assert faults("keep") < 20
    assert faults("leave") >= 200
    assert faults("keep", MALLOC_TRIM_THRESHOLD_="131072") >= 200
