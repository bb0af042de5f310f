"""Updates of dynamic sparse training, and the products of a condensed layer beside the dense ones.

`python -m benchmarks.bench_growth`; set OPENBLAS_NUM_THREADS=1 for one thread throughout (SciPy and the gathers of
NumPy have no other).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from benchmarks.bench_masks import median_seconds
from nmsim.sparsity.condensed import KERNELS, Condensed, condense
from nmsim.sparsity.growth import constant_fan_in_mask, initial_weight, rigl_update, srigl_update

LAYER = (1024, 1024)
FEED_FORWARD = (768, 3072)
"""[out, in] of the second feed-forward product of ViT-B/16."""

DENSITIES = (0.2, 0.1, 0.05, 0.01)
BATCHES = (1, 4, 16, 64, 256)
ABLATED = 0.25
"""An assumed share of ablated neurons; the budget goes to the others, as in an update of SRigL."""


def updates() -> None:
    rng = np.random.default_rng(0)
    print(f"{'layer':>12} {'density':>8} {'RigL ms':>8} {'SRigL ms':>9}")
    for density in (0.5, *DENSITIES):
        mask = constant_fan_in_mask(*LAYER, int(density * LAYER[1]), rng)
        layer = initial_weight(mask, rng), mask, rng.standard_normal(LAYER, dtype=np.float32)
        budget = int(mask.sum())
        rigl = median_seconds(partial(rigl_update, *layer, 0.3))
        srigl = median_seconds(partial(srigl_update, *layer, 0.3, budget))
        print(f"{'x'.join(map(str, LAYER)):>12} {density:>8} {1e3 * rigl:>8.1f} {1e3 * srigl:>9.1f}")


def condensed(density: float, rng: np.random.Generator) -> Condensed:
    out, inputs = FEED_FORWARD
    mask = constant_fan_in_mask(out, inputs, int(density * inputs / (1 - ABLATED)), rng)
    mask[rng.permutation(out)[: int(ABLATED * out)]] = False
    return condense(initial_weight(mask, rng))


def products() -> None:
    rng = np.random.default_rng(0)
    print(f"3072 -> 768, float32, {ABLATED:.0%} of the neurons ablated, milliseconds")
    print(f"{'sparsity':>8} {'batch':>6} {'product':>8} {'dense':>8} " + " ".join(f"{k:>10}" for k in KERNELS))
    for density in DENSITIES:
        form = condensed(density, rng)
        for batch in BATCHES:
            x = rng.standard_normal((batch, form.inputs), dtype=np.float32)
            dy = rng.standard_normal((batch, form.out), dtype=np.float32)
            for product, times in seconds(form, x, dy).items():
                cells = f"{1e3 * times[0]:>8.3f} " + " ".join(f"{1e3 * t:>10.3f}" for t in times[1:])
                print(f"{1 - density:>8.0%} {batch:>6} {product:>8} {cells}")


def seconds(form: Condensed, x: np.ndarray, dy: np.ndarray) -> dict[str, list[float]]:
    """The median times of forward, input gradient and weight gradient: dense, then each kernel."""
    weight = form.dense()
    calls: dict[str, list[Callable[[], object]]] = {
        "FF": [lambda: x @ weight.T, *(partial(form.matmul, x, kernel=k) for k in KERNELS)],
        "BP": [lambda: dy @ weight, *(partial(form.input_gradient, dy, kernel=k) for k in KERNELS)],
        "WU": [lambda: dy.T @ x, *(partial(form.weight_gradient, dy, x, kernel=k) for k in KERNELS)],
    }
    return {product: [median_seconds(call) for call in row] for product, row in calls.items()}


def main() -> None:
    updates()
    products()


if __name__ == "__main__":
    main()
