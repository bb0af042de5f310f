"""Row-wise operations whose kernels pass over a row several times: softmax, normalisations.

A row of at most `held` elements stays in registers and is read once. A longer one is read `reads` times. What all
cores read at a time,

    footprint = cores x at_once x bytes of a row,

stays in L2 if it fits: the later passes then cost L2's time, which nothing hides, since a row's passes follow each
other. Otherwise they go to DRAM again.
"""

from __future__ import annotations

import numpy as np

from nmsim.arch.schema import TensorCoreArch
from nmsim.workloads.optable import Workload


def passes(arch: TensorCoreArch, work: Workload, size: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Bytes read again from DRAM, and seconds of reading again from L2 [ops].

    `size` are the bytes of the streams a, b and c, read or written once.
    """
    again, held, at_once = (np.zeros(len(work)) for _ in range(3))
    for kind, kernel in arch.vector.rows.items():
        here = work.is_kind(kind, f"{kind} alone")
        again[here], held[here], at_once[here] = kernel.reads - 1, kernel.held, kernel.at_once
    again = np.where(work["n"] > held, again, 0.0)
    rows = np.maximum(work["m"].astype(float) * work["count"], 1.0)
    l2, read = arch.memories.l2, size["a"] + size["b"]
    footprint = np.minimum(arch.cores.count * at_once, rows) * read / rows
    misses = footprint > l2.size / l2.copies
    return np.where(misses, again * read, 0.0), np.where(misses, 0.0, again * read / l2.bandwidth)
