"""Seconds of transposable masks of a float32 array and the share of |x| they keep, beside plain ways to the same.

The plain ways run on a few tiles and are scaled to all: the greedy element by element, the optimum as one linear
programme per tile. Where PyTorch is installed, the greedy also as a loop over ranks of tensor operations.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nmsim.sparsity.transposable import METHODS, transposable_mask

PATTERNS = ((2, 4), (2, 8), (4, 8), (8, 16))
FEW = 100
REPEATS = 3


def least_seconds(call: Callable[[], Any], repeats: int = REPEATS) -> tuple[float, Any]:
    """The least of a few timed calls, which others on the machine disturb least, and the last result."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = call()
        times.append(time.perf_counter() - start)
    return min(times), result


def tiles_of(array: np.ndarray, m: int) -> np.ndarray:
    """[tiles, m, m] of a matrix."""
    rows, columns = (length // m for length in array.shape)
    return array.reshape(rows, m, columns, m).swapaxes(1, 2).reshape(-1, m, m)


def looped_greedy(tile: np.ndarray, n: int) -> np.ndarray:
    """The greedy of one tile, element by element."""
    m = len(tile)
    mask, in_row, in_column = np.zeros((m, m), bool), [0] * m, [0] * m
    for place in np.argsort(-np.abs(tile), axis=None, kind="stable").tolist():
        i, j = divmod(place, m)
        if in_row[i] < n and in_column[j] < n:
            mask[i, j] = True
            in_row[i] += 1
            in_column[j] += 1
    return mask


def programmed(tile: np.ndarray, n: int) -> np.ndarray:
    """The optimum of one tile as a linear programme, whose vertices are masks."""
    from scipy.optimize import linprog

    m = len(tile)
    lines = np.vstack([np.kron(np.eye(m), np.ones(m)), np.kron(np.ones(m), np.eye(m))])
    found = linprog(-np.abs(tile).ravel(), A_eq=lines, b_eq=np.full(2 * m, n), bounds=(0, 1), method="highs")
    return found.x.reshape(m, m) > 0.5


def tensor_greedy(tiles: Any, n: int) -> Any:
    """The greedy of all tiles in PyTorch: sort, then gather and scatter the counts of rows and columns by rank."""
    import torch

    count, m, _ = tiles.shape
    order = tiles.abs().reshape(count, -1).argsort(dim=1, descending=True)
    mask = torch.zeros(count, m * m, dtype=torch.bool)
    in_row, in_column = torch.zeros(2, count, m, dtype=torch.int64)
    for rank in range(m * m):
        place = order[:, rank : rank + 1]
        row, column = place // m, place % m
        fits = (in_row.gather(1, row) < n) & (in_column.gather(1, column) < n)
        in_row.scatter_add_(1, row, fits.long())
        in_column.scatter_add_(1, column, fits.long())
        mask.scatter_(1, place, fits)
    return mask.reshape(tiles.shape)


def tensor_seconds(tiles: np.ndarray, n: int) -> str:
    """The time of the greedy in PyTorch, or a dash."""
    try:
        import torch
    except ImportError:
        return "-"
    given = torch.from_numpy(np.ascontiguousarray(tiles))
    return f"{least_seconds(lambda: tensor_greedy(given, n))[0]:.3f}"


def main(arguments: Sequence[str] = ()) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=2048, help="rows and columns of the array")
    size = parser.parse_args(arguments).size
    array = np.random.default_rng(0).standard_normal((size, size), dtype=np.float32)
    total = np.abs(array).sum(dtype=np.float64)
    print(f"{'pattern':>8} {'method':>8} {'s':>8} {'kept':>8} {'plain s':>9} {'ratio':>7} {'torch s':>8}")
    for n, m in PATTERNS:
        tiles = tiles_of(array, m)
        for method in METHODS:
            seconds, mask = least_seconds(lambda n=n, m=m, method=method: transposable_mask(array, f"{n}:{m}", method))
            kept = np.abs(array).sum(where=mask, dtype=np.float64) / total
            plain = {"greedy": looped_greedy, "exact": programmed}.get(method)
            beside = f"{'-':>9} {'-':>7}"
            if plain:
                few = least_seconds(lambda n=n, plain=plain, tiles=tiles: [plain(tile, n) for tile in tiles[:FEW]], 1)[
                    0
                ]
                all_tiles = few / FEW * len(tiles)
                beside = f"{all_tiles:>9.1f} {all_tiles / seconds:>7.0f}"
            tensor = tensor_seconds(tiles, n) if method == "greedy" else "-"
            print(f"{f'{n}:{m}':>8} {method:>8} {seconds:>8.3f} {kept:>8.4f} {beside} {tensor:>8}")


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
