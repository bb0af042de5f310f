"""One-shot pruning of a layer at 2:4: seconds, and the error of its outputs; SparseGPT beside one input at a time.

The inputs are correlated (each a mixture of its neighbours), the weights random.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nmsim.sparsity.mask import top_n_mask
from nmsim.sparsity.oneshot import InputStatistics, one_shot, sparsegpt
from nmsim.sparsity.series import choose_series, decompose

PATTERN, N, M = "2:4", 2, 4
SERIES = ("1:8", "2:8", "2:8 + 1:8", "4:8", "4:8 + 1:8", "4:8 + 2:8")


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def correlated(rng: np.random.Generator, tokens: int, inputs: int) -> np.ndarray:
    """Inputs of unequal size, each sharing most of its variance with its neighbours."""
    x = rng.standard_normal((tokens, inputs), dtype=np.float32)
    for shift in (1, 2, 4):
        x += np.roll(x, shift, axis=1)
    return x * rng.lognormal(0, 0.5, inputs).astype(np.float32)


def one_input_at_a_time(weight: np.ndarray, hessian: np.ndarray) -> np.ndarray:
    """The same recursion in its plainest form: each pruned input updates all later ones at once."""
    w = weight.astype(np.float64)
    h = hessian + 0.01 * hessian.diagonal().mean() * np.eye(len(hessian))
    u = np.linalg.cholesky(np.linalg.inv(h)).T
    kept = np.zeros(w.shape, np.bool_)
    for i in range(len(w)):
        if i % M == 0:
            group = slice(i, i + M)
            kept[group] = top_n_mask(np.abs(w[group]) / u.diagonal()[group, None], PATTERN, axis=0)
        error = np.where(kept[i], 0, w[i]) / u[i, i]
        w[i] *= kept[i]
        w[i + 1 :] -= u[i, i + 1 :, None] * error
    return w


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=1024, help="inputs and outputs of the layer")
    parser.add_argument("--plain", action="store_true", help="also SparseGPT one input at a time, which is slow")
    options = parser.parse_args(arguments)
    rng = np.random.default_rng(0)
    x = correlated(rng, 4 * options.size, options.size)
    weight = rng.standard_normal((options.size, options.size), dtype=np.float32)
    outputs = x @ weight
    statistics = InputStatistics(options.size, hessian=True)
    print(f"{'what':>34} {'s':>8}  relative error of outputs")

    def row(what: str, seconds: float, pruned: np.ndarray | None = None) -> None:
        error = "" if pruned is None else f"{np.linalg.norm(x @ pruned - outputs) / np.linalg.norm(outputs):9.3f}"
        print(f"{what:>34} {seconds:>8.3f}  {error}")

    row(f"X^T X of {len(x)} tokens", timed(lambda: statistics.add(x))[0])
    for method in ("magnitude", "wanda", "sparsegpt"):
        seconds, (pruned, _) = timed(lambda method=method: one_shot(weight, PATTERN, method, statistics))
        row(method, seconds, pruned)
    h = statistics.hessian
    seconds, single = timed(lambda: sparsegpt(weight, PATTERN, h, dtype="float32"))
    row("sparsegpt in float32", seconds, single.weight)
    if options.plain:
        seconds, plain = timed(lambda: one_input_at_a_time(weight, h))
        row("sparsegpt, one input at a time", seconds, plain)
    seconds, terms = timed(lambda: decompose(weight, "2:4 + 1:4", axis=0))
    row("series 2:4 + 1:4", seconds, terms.sum())
    seconds, chosen = timed(lambda: choose_series(weight, SERIES, 0.95, axis=0))
    row(f"chosen for 95 %: {chosen}", seconds, chosen.sum())


if __name__ == "__main__":
    main()
