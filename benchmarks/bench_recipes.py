"""What 2:8 recipes add to a training step (forward, backward, SGD) of linear layers and of a convolution."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

import numpy as np

from nmsim.train.layers.base import Layer, Run
from nmsim.train.layers.conv import Conv2d
from nmsim.train.layers.linear import Linear
from nmsim.train.recipes.execution import Execution

RECIPES = ("ste", "srste", "static", "sdwp", "bdwp", "sdgp", "sdgp_maxnorm")
REPEATS = 25
WIDTH = 512


def execution(recipe: str, layers: Sequence[Layer]) -> Execution:
    return Execution(recipe, "dense" if recipe == "dense" else "2:8", {layer.name: ("FF", "BP") for layer in layers})


def step(layers: Sequence[Layer], run: Run, x: np.ndarray) -> None:
    for layer in layers:
        x = layer.forward(run, x)
    for layer in reversed(layers):
        (x,) = layer.backward(run, x, (True,))
        for parameter in layer.parameters():
            parameter.grad *= 1e-12
            parameter.value -= parameter.grad


def seconds(layers: Sequence[Layer], x: np.ndarray) -> dict[str, float]:
    """The median step by recipe; the recipes take turns, so that a slow moment of the machine meets all of them."""
    runs = {recipe: Run(sparsifier=execution(recipe, layers)) for recipe in ("dense", *RECIPES)}
    times: dict[str, list[float]] = {recipe: [] for recipe in runs}
    for i in range(REPEATS + 1):
        for recipe, run in runs.items():
            run.sparsifier.begin_step(i)
            start = time.perf_counter()
            step(layers, run, x)
            times[recipe].append(time.perf_counter() - start)
    return {recipe: statistics.median(measured[1:]) for recipe, measured in times.items()}


def main() -> None:
    rng = np.random.default_rng(0)
    print(f"{'step':>28} {'dense ms':>9} " + " ".join(f"{recipe:>12}" for recipe in RECIPES))
    cases: list[tuple[str, list[Layer], tuple[int, ...]]] = [
        (f"4 x linear {WIDTH}, {rows} rows", [Linear(f"l{i}", WIDTH, WIDTH, rng) for i in range(4)], (rows, WIDTH))
        for rows in (128, 512, 2048)
    ]
    cases += [
        (f"conv 3x3 {c}, {size}x{size} x 32", [Conv2d("c", c, c, 3, rng, padding=1)], (32, size, size, c))
        for c, size in ((64, 16), (256, 8))
    ]
    for name, layers, shape in cases:
        measured = seconds(layers, rng.standard_normal(shape, dtype=np.float32))
        dense = measured["dense"]
        overhead = " ".join(f"{100 * (measured[recipe] / dense - 1):>+11.1f}%" for recipe in RECIPES)
        print(f"{name:>28} {1e3 * dense:>9.2f} {overhead}")


if __name__ == "__main__":
    main()
