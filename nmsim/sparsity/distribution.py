"""Distributions: the density of each layer of a network, from one density of the whole."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from nmsim.errors import PatternError, ShapeError

Densities = NDArray[np.float64]

_ROUNDING = 1e-12
"""The relative distance below a whole number at which a product of two doubles still counts as that number."""


def uniform(shapes: Iterable[Sequence[int]], density: float) -> Densities:
    """The same density for every layer; a layer to be kept dense is left out of `shapes`.

    Raises as `erk`.
    """
    sizes, _ = _layers(shapes)
    return _checked(np.full(len(sizes), _share(density)), sizes)


def erk(shapes: Iterable[Sequence[int]], density: float, power: float = 1.0, *, whole_zeros: bool = False) -> Densities:
    """The Erdős-Rényi-kernel density of each layer; `shapes` are [out, in] or [out, in, kh, kw], in any order.

    d_l = min(1, e * (sum of the dimensions of l / product of the dimensions of l)^power), with e such that the
    weights kept, sum of d_l * size_l, are density * sum of size_l. Layers that would exceed 1 are made dense and e is
    found anew for the others, until none does (RigL, arXiv 1911.11134, section 3; SRigL takes power 1).

    `whole_zeros` rounds the zeros of each layer, size_l * (1 - density), down to whole numbers before they are added,
    so that a network of few weights keeps up to one more per layer (calgaryml/condensed-sparsity,
    src/rigl_torch/rigl_scheduler.py).

    Raises PatternError for a density outside (0, 1], a power that is not finite, and a density at which a layer keeps
    less than one weight; ShapeError for no layers, fewer than 2 dimensions and dimensions that are not positive.
    """
    sizes, sums = _layers(shapes)
    share = _share(density)
    if not math.isfinite(power):
        raise PatternError(f"the power of an ERK distribution is a finite number, not {power!r}")
    raw = (sums / sizes) ** power
    kept = (sizes - np.floor(sizes * (1 - share))).sum() if whole_zeros else share * sizes.sum()
    return _checked(_fill(sizes, raw, kept), sizes)


def weight_budget(size: int, density: float) -> int:
    """The whole weights that a layer of `size` keeps: floor(size * density), where 0.29 of 100 is 29.

    Raises PatternError for a density outside (0, 1].
    """
    return math.floor(size * _share(density) * (1 + _ROUNDING))


def _fill(sizes: Densities, raw: Densities, kept: float) -> Densities:
    """The densities raw * scale, at most 1, that keep `kept` weights; scale only grows as layers become dense."""
    # A network that keeps all weights is dense, without rounding.
    dense = np.full(len(sizes), kept >= sizes.sum())
    density = np.ones(len(sizes))
    while not dense.all():
        rest = ~dense
        scale = (kept - sizes[dense].sum()) / (raw[rest] * sizes[rest]).sum()
        density[rest] = raw[rest] * scale
        if not (density > 1).any():
            break
        dense |= density > 1
        density[dense] = 1.0
    return density


def _layers(shapes: Iterable[Sequence[int]]) -> tuple[Densities, Densities]:
    """Products and sums of the dimensions of each layer."""
    try:
        layers = [tuple(operator.index(n) for n in shape) for shape in shapes]
    except TypeError:
        raise ShapeError(f"the shapes of layers are sequences of whole numbers, not {shapes!r:.60}") from None
    if not layers:
        raise ShapeError("a distribution needs at least one layer")
    if wrong := [shape for shape in layers if len(shape) < 2 or min(shape) < 1]:
        raise ShapeError(f"no shape of a layer: {list(wrong[0])}; it has 2 or more dimensions, each at least 1")
    sizes = np.array([math.prod(shape) for shape in layers], dtype=np.float64)
    return sizes, np.array([sum(shape) for shape in layers], dtype=np.float64)


def _share(density: float) -> float:
    if not 0 < density <= 1:
        raise PatternError(f"a density lies above 0 and at most at 1, not {density!r}")
    return float(density)


def _checked(densities: Densities, sizes: Densities) -> Densities:
    empty = np.flatnonzero(densities * sizes * (1 + _ROUNDING) < 1)
    if empty.size:
        layer = int(empty[0])
        raise PatternError(
            f"layer {layer} of {int(sizes[layer])} weights keeps none at density {densities[layer]:.3g}; "
            f"it needs at least {1 / sizes[layer]:.3g}"
        )
    return densities
