"""Element-wise work on large arrays: blocks that fit in cache, on a few threads whose number changes no result.

NumPy runs an element-wise operation on one thread and lets go of the interpreter while it does.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import lru_cache
from typing import Any

import numpy as np

Array = np.ndarray

BLOCK_ELEMENTS = 1 << 17
"""Elements of a block; blocks depend on shapes only, never on the number of threads."""


def thread_count() -> int:
    """Threads to use: the environment variable NMSIM_THREADS, or the processors there are."""
    return max(1, int(os.environ.get("NMSIM_THREADS") or os.cpu_count() or 1))


def in_parallel(function: Callable[[int], Any], calls: int) -> list[Any]:
    """[function(0), ... function(calls - 1)], in that order, worked through by this thread and a few helpers."""
    threads = min(thread_count(), calls)
    if threads <= 1:
        return [function(i) for i in range(calls)]
    results: list[Any] = [None] * calls
    counter = itertools.count()

    def work() -> None:
        while (i := next(counter)) < calls:
            results[i] = function(i)

    helpers = [_pool(os.getpid(), thread_count() - 1).submit(work) for _ in range(threads - 1)]
    try:
        work()
    finally:
        # Nothing may go on writing when this returns; helpers that have not begun have nothing left to do.
        running = [helper for helper in helpers if not helper.cancel()]
        wait(running)
    for helper in running:
        helper.result()
    return results


def rows_in_parallel(function: Callable[..., Any], *arrays: Array) -> list[Any]:
    """`function(*blocks)` for every block of rows (axis 0) of arrays of the same length; its results in order.

    The function must not change any array outside the blocks that it is given.
    """
    length = len(arrays[0])
    rows = max(1, BLOCK_ELEMENTS * length // max(1, *(a.size for a in arrays)))
    if rows >= length:
        return [function(*arrays)]
    return in_parallel(lambda i: function(*(a[i * rows : (i + 1) * rows] for a in arrays)), -(-length // rows))


def elementwise(function: Callable[..., Any], *arrays: Array) -> Array:
    """A new array like the first, set by `function(out, *blocks)` on one-dimensional blocks of arrays of one shape."""
    out = np.empty(arrays[0].shape, arrays[0].dtype)
    rows_in_parallel(function, out.reshape(-1), *(a.reshape(-1) for a in arrays))
    return out


def row_dot(x: Array, y: Array) -> Array:
    """[r, 1] products of the rows of x[r, c] with a vector y[c] or with the rows of y[r, c], without a temporary."""
    return np.matmul(x[:, None, :], y[..., None])[:, 0]


@lru_cache(maxsize=1)
def _pool(process: int, helpers: int) -> ThreadPoolExecutor:
    """The helpers of this process: a fork inherits the object but not its threads, hence the process number."""
    return ThreadPoolExecutor(helpers, thread_name_prefix="nmsim")
