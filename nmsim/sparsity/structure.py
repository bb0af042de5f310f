"""Structure decay: sequences of patterns that lead to n:m, and how they are laid over a run."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from nmsim.errors import PatternError, ShapeError, UnsupportedError, unknown
from nmsim.sparsity.groups import Mask, resolve
from nmsim.sparsity.mask import magnitude_mask
from nmsim.sparsity.pattern import Pattern

Groups = tuple[int, int]
Rule = Literal["exact", "pgf"]

WIDENINGS = (8, 4, 2, 1)


def stepwise(n: int, m: int, rule: Rule = "exact") -> list[Groups]:
    """m-1, m/2, m/4 ... n of m (SdGf-Stepwise, arXiv 2402.04744): each once, halves rounded down, n itself last.

    `pgf` is the published code's count of floor(log2(m/n)) + 1 patterns (abhibambhaniya/progressive_gradient_flow_nm_
    sparsity, timm/sparse_pruning): it stops above n where m/n is no power of 2, and has 1:2 twice. Raises PatternError
    unless 1 <= n < m.
    """
    _check(n, m)
    if rule not in ("exact", "pgf"):
        raise UnsupportedError(unknown("rule of a structure", rule, ("exact", "pgf")))
    if rule == "pgf":
        return [(m - 1 if i == 0 else m // 2**i, m) for i in range(int(math.log2(m / n)) + 1)]
    kept = [m - 1, *(m // 2**i for i in range(1, m.bit_length()))]
    return [(k, m) for k in dict.fromkeys([*(k for k in kept if k > n), n])]


def geometric(n: int, m: int) -> list[Groups]:
    """8n:8m, 4n:4m, 2n:2m, n:m (SdGf-Geometric): one density, in ever smaller groups; raises PatternError."""
    _check(n, m)
    return [(n * w, m * w) for w in WIDENINGS]


def densify(n: int, m: int) -> list[Groups]:
    """n:8m, n:4m, n:2m, n:m: from sparse to less sparse (the third type of the code of SdGf); raises PatternError."""
    _check(n, m)
    return [(n, m * w) for w in WIDENINGS]


def halving(n: int, m: int) -> list[Groups]:
    """m (dense), m-1, then ceil(m/4), ceil(m/8) ... n of m, each once (structure decay, arXiv 2209.07617)."""
    _check(n, m)
    return [(k, m) for k in dict.fromkeys(halved(u, m, n) for u in range(m.bit_length() + 1))]


def halved(updates: int, kept: int, floor: int = 1) -> int:
    """How many are kept after a number of updates: `kept`, kept - 1, then ceil(kept / 2^updates), at least `floor`.

    The published code (google/aqt, jax_legacy/jax/sparsity) skips kept / 2: the first update takes one away only.
    """
    return max(floor, kept - 1 if updates == 1 else -(-kept // 2**updates))


KINDS: dict[str, Callable[[int, int], list[Groups]]] = {
    "stepwise": stepwise,
    "geometric": geometric,
    "densify": densify,
    "halving": halving,
}


def frames(
    kind: str, n: int, m: int, steps: int, dense: int = 0, fine_tune: int = 0, rule: Rule = "exact"
) -> list[tuple[int, int, int]]:
    """The patterns of a run as (first step, n, m), in equal frames between a dense and a fine-tuning phase.

    Of the steps - dense - fine_tune steps, frame i of k begins after the share i/k, rounded down; before the first,
    products are dense; fine-tuning keeps the last pattern. Where frames are so short that two begin at one step, the
    later one counts. `rule` is that of `stepwise`. The vector of a run in epochs is had by giving epochs for steps.

    Raises UnsupportedError for an unknown kind and for phases that leave no step between them.
    """
    if kind not in KINDS:
        raise UnsupportedError(unknown("structure", kind, KINDS))
    if min(dense, fine_tune) < 0 or dense + fine_tune >= steps:
        raise UnsupportedError(
            f"{dense} dense and {fine_tune} fine-tuning steps of {steps} leave none for the patterns between them"
        )
    patterns = stepwise(n, m, rule) if kind == "stepwise" else KINDS[kind](n, m)
    length = steps - dense - fine_tune
    begins = {dense + length * i // len(patterns): pattern for i, pattern in enumerate(patterns)}
    return [(first, *pattern) for first, pattern in begins.items()]


def flat_mask(weight: ArrayLike, n: int, m: int, axis: int = -1) -> Mask:
    """The magnitude mask n:m of groups of the array flattened with `axis` last, as published code lays them.

    Where the length of the axis is a multiple of m this is `magnitude_mask`. Elsewhere groups straddle rows, and no
    machine that skips along the axis can use them: for comparison with published masks only. m has no limit. Raises
    ShapeError where the size of the array is no multiple of m.
    """
    weight = np.asarray(weight)
    _, axis = resolve("dense", axis, weight.ndim)
    if not 1 <= n <= m:
        raise PatternError(f"not a pattern: {n}:{m}; n:m needs 1 <= n <= m")
    if weight.size % m:
        raise ShapeError(f"{weight.size} elements are no multiple of groups of {m}")
    moved = np.moveaxis(weight, axis, -1)
    kept = magnitude_mask(moved.reshape(-1, m), Pattern.fan_in(n), axis=-1)
    return np.ascontiguousarray(np.moveaxis(kept.reshape(moved.shape), -1, axis))


def _check(n: int, m: int) -> None:
    if not 1 <= n < m:
        raise PatternError(f"no patterns lead to {n}:{m}; a structure needs 1 <= n < m")
