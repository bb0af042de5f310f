"""Memory that a thread uses again and again for arrays that live for a moment."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

SCRATCH_BYTES = 1 << 22
"""The most that a thread keeps of one name; larger arrays are made anew."""

_SCRATCH = threading.local()


def scratch(name: str, shape: Sequence[int], dtype: Any) -> np.ndarray:
    """An array of this thread with anything in it, to be used until the thread asks for that name again.

    Blocks of the same few sizes follow each other: memory that is new for each of them would cost more than the work.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size > SCRATCH_BYTES:
        return np.empty(shape, dtype)
    kept = getattr(_SCRATCH, name, None)
    if kept is None or len(kept) < size:
        kept = np.empty(size, np.uint8)
        setattr(_SCRATCH, name, kept)
    return kept[:size].view(dtype).reshape(shape)
