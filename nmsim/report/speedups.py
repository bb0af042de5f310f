"""How much faster a workload is at each pattern, on each machine: the rows of a plot of speed-up against pattern."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from nmsim.arch.schema import AnyArch
from nmsim.engines.run import simulate
from nmsim.sparsity.pattern import Pattern
from nmsim.sparsity.recipe import get_recipe
from nmsim.workloads.optable import Workload

if TYPE_CHECKING:
    import pandas as pd

PATTERNS = ("4:8", "2:4", "4:16", "2:8", "1:4", "2:16", "1:8", "1:16")


def speedup_rows(
    arches: Iterable[str | AnyArch],
    model: Workload,
    patterns: Sequence[str | Pattern] = PATTERNS,
    recipe: str = "inference",
    **options: Any,
) -> pd.DataFrame:
    """A row per machine and pattern: `arch`, `pattern`, `latency_s`, `speedup` over dense, and `bound`.

    `model` is an inference workload with a model behind it; with another `recipe` a training step by it is compared
    with a dense one. `bound` is the speed-up if the time of equal products fell with their multiply-accumulates: m/n
    of an inference, of a training recipe what its sparse stages allow (see `nmsim list recipes`). `options` are
    those of `Workload.training`. Raises NmsimError for names that do not exist.
    """
    import pandas as pd

    plain = recipe == "inference"
    rows = []
    dense = model.inference("dense", **options) if plain else model.training("dense", **options)
    parsed = [Pattern.parse(p) for p in patterns]
    works = [model.training(recipe, p, **options) for p in parsed]
    for arch in arches:
        base = simulate(arch, dense)
        for pattern, work in zip(parsed, works, strict=True):
            result = simulate(arch, work)
            bound = 1 / pattern.density if plain else get_recipe(recipe).speedup_bound(pattern.density)
            rows.append({
                "arch": result.arch.name, "pattern": str(pattern), "latency_s": result.latency_s,
                "speedup": result.speedup_over(base), "bound": bound,
            })  # fmt: skip
    return pd.DataFrame(rows)
