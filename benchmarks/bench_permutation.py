"""Seconds of channel permutation searches at 2:4, and of Bi-Mask's best of 100 orders, on one core."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from nmsim.sparsity.bimask import best_permutation
from nmsim.sparsity.mask import magnitude_mask
from nmsim.sparsity.permutation import METHODS, search_permutation

SIZES = (256, 512, 1024)
PATTERNS = ("2:4", "1:4", "2:8", "1:16")
Result = TypeVar("Result")


def timed(call: Callable[[], Result]) -> tuple[Result, float]:
    """What the call returns, and its seconds."""
    start = time.perf_counter()
    result = call()
    return result, time.perf_counter() - start


def main() -> None:
    rng = np.random.default_rng(0)
    print(f"{'channels':>9} {'method':>11} {'seconds':>9} {'efficacy':>9}")
    for size in SIZES:
        matrix = rng.standard_normal((size, size), dtype=np.float32)
        for method in METHODS:
            found, seconds = timed(
                lambda matrix=matrix, method=method: search_permutation(
                    matrix, method=method, rng=np.random.default_rng(1), candidates=100
                )
            )
            print(f"{size:>9} {method:>11} {seconds:>9.3f} {found.efficacy:>9.1%}")
    print(f"{'pattern':>9} {'Bi-Mask s, 100 orders of 1024x1024':>35}")
    weight = rng.standard_normal((1024, 1024), dtype=np.float32)
    for pattern in PATTERNS:
        forward = magnitude_mask(weight, pattern, axis=0)
        _, seconds = timed(
            lambda forward=forward, pattern=pattern: best_permutation(
                weight, forward, pattern, np.random.default_rng(1)
            )
        )
        print(f"{pattern:>9} {seconds:>35.4f}")


if __name__ == "__main__":
    main()
