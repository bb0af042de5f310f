"""Seconds of magnitude masks of a 4096x4096 float32 array on one core, beside a plain argpartition."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np

from nmsim.sparsity.mask import magnitude_mask

SHAPE = (4096, 4096)
PATTERNS = ((2, 4), (2, 8), (1, 16))
REPEATS = 5


def argpartition_mask(array: np.ndarray, n: int, m: int, axis: int) -> np.ndarray:
    """The same mask the usual way, for arrays whose axis is a multiple of m; ties fall as they may."""
    moved = np.moveaxis(array, axis, -1)
    groups = np.abs(moved).reshape(-1, m)
    kept = np.zeros(groups.shape, dtype=np.bool_)
    np.put_along_axis(kept, np.argpartition(groups, m - n, axis=1)[:, m - n :], True, axis=1)
    return np.moveaxis(kept.reshape(moved.shape), -1, axis)


def median_seconds(call: Callable[[], object]) -> float:
    """The median of a few timed calls, after one that is not timed."""
    call()
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    array = np.random.default_rng(0).standard_normal(SHAPE, dtype=np.float32)
    print(f"{'pattern':>8} {'axis':>5} {'nmsim s':>9} {'argpartition s':>15} {'ratio':>6}")
    for n, m in PATTERNS:
        for axis in (0, -1):
            ours = median_seconds(lambda n=n, m=m, axis=axis: magnitude_mask(array, f"{n}:{m}", axis))
            plain = median_seconds(lambda n=n, m=m, axis=axis: argpartition_mask(array, n, m, axis))
            print(f"{f'{n}:{m}':>8} {axis:>5} {ours:>9.4f} {plain:>15.4f} {plain / ours:>6.1f}")


if __name__ == "__main__":
    main()
