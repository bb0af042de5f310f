"""Element-wise work on large arrays: blocks that fit in cache, on a few threads whose number changes no result.

NumPy runs an element-wise operation on one thread and lets go of the interpreter while it does.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np

Array = np.ndarray

BLOCK_ELEMENTS = 1 << 17
"""Elements of a block; blocks depend on shapes only, never on the number of threads."""

PART_MACS, LEAST_ROWS, MOST_PARTS = 1 << 22, 128, 16
"""A part of a product has at least so many multiply-accumulates and rows; there are at most so many parts."""


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


def products_in_parallel(function: Callable[[Any], Any], parts: Sequence[Any], alone: bool = False) -> list[Any]:
    """[function(part) for part in parts], for functions that multiply matrices small enough for one thread each.

    One such function is left the threads of BLAS, unless it is to run `alone`. Several share our threads, each with a
    BLAS of one thread: what goes on around the products is then shared as well, and nobody waits for another within a
    product. Where the threads of BLAS cannot be set, the functions run one after another.
    """
    if (len(parts) == 1 and not alone) or _blas_threads() is None:
        return [function(part) for part in parts]
    with _one_blas_thread():
        return in_parallel(lambda i: function(parts[i]), len(parts))


def matmul(x: Array, y: Array, out: Array | None = None) -> Array:
    """x[m, k] @ y[k, n], or a stack of such products [..., m, k] @ [..., k, n], in `out` if one is given.

    Rows (of a stack: what lies along its first axis) are shared among our threads, each with a BLAS of one thread.
    Threads of BLAS wait for each other in a loop: beside other work on the machine they take many times as long.
    """
    if out is None:
        out = np.empty((*x.shape[:-1], y.shape[-1]), np.result_type(x, y))
    stacked, length = y.ndim > 2, len(x)
    most = length if stacked else length // LEAST_ROWS
    parts = max(1, min(x.size * y.shape[-1] // PART_MACS, most, MOST_PARTS))
    rows = max(1, -(-length // parts))

    def part(place: slice) -> None:
        np.matmul(x[place], y[place] if stacked else y, out=out[place])

    products_in_parallel(part, [slice(i, i + rows) for i in range(0, length, rows)], alone=True)
    return out


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


@lru_cache(maxsize=1)
def _blas_threads() -> tuple[Callable[[], int], Callable[[int], None]] | None:
    """Functions that get and set the number of threads of the OpenBLAS that comes with NumPy; None for another BLAS."""
    try:
        library = ctypes.CDLL(np._core._multiarray_umath.__file__)  # type: ignore[attr-defined]
        return library.scipy_openblas_get_num_threads64_, library.scipy_openblas_set_num_threads64_
    except (AttributeError, OSError):
        return None


_BLAS_LOCK = threading.RLock()


@contextmanager
def _one_blas_thread() -> Iterator[None]:
    """BLAS on one thread, for the whole process, until the block ends; of several such blocks each has its turn."""
    control = _blas_threads()
    assert control is not None
    get, put = control
    with _BLAS_LOCK:
        before = get()
        put(1)
        try:
            yield
        finally:
            put(before)
