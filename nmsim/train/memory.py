"""How the C library gives memory back: not between two steps of a training run."""

from __future__ import annotations

import ctypes
import os
import sys
from functools import lru_cache

KEPT_BYTES, OLD_LIMIT = 1 << 28, 1 << 25
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of <malloc.h>


@lru_cache(maxsize=1)
def keep_freed_memory() -> bool:
    """Let this process keep up to 256 MiB that it has freed, for its next arrays; whether the C library can do that.

    A training step frees its large arrays and soon wants the like again. By default glibc returns them to the system
    in between, and the page faults of getting them back take up to a fifth of a step. The peak is the same. Settings
    made by the environment (MALLOC_TRIM_THRESHOLD_, MALLOC_MMAP_THRESHOLD_) stay as they are.
    """
    if not sys.platform.startswith("linux") or {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"} & os.environ.keys():
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # not glibc
        return False
    large = mallopt(_MMAP_THRESHOLD, KEPT_BYTES) or mallopt(_MMAP_THRESHOLD, OLD_LIMIT)  # older ones refuse more
    return bool(large and mallopt(_TRIM_THRESHOLD, KEPT_BYTES))
