"""The arithmetic of recipes, a rule each: the mask of a weight, the decay of pruned weights, rescaled gradients."""

from __future__ import annotations

from math import prod
from zlib import crc32

import numpy as np

from nmsim.scratch import scratch
from nmsim.sparsity.groups import Mask
from nmsim.sparsity.mask import magnitude_mask
from nmsim.sparsity.pattern import Pattern
from nmsim.train.layers.base import Array
from nmsim.train.parallel import BLOCK_ELEMENTS, in_parallel, rows_in_parallel

AXES = {"in": -2, "out": -1}
"""The axis of a weight [..., in, out] along which groups of each direction run."""

RESCALE_EPSILON = 1e-4
"""Added to the L1 norm that is divided by (github.com/BradMcDanel/sdgp sdgp.py)."""


def stream(seed: int, name: str, step: int) -> np.random.Generator:
    """What is random of something at a step: the same whenever it is drawn, so that a checkpoint need not keep it."""
    return np.random.default_rng([seed, crc32(name.encode()), step])


def search(weight: Array, pattern: Pattern, direction: str, groups: int = 1) -> Mask:
    """The magnitude mask of a weight [..., in, out] with groups along a direction, at one kernel position each.

    A fan-in counts a row at all kernel positions of a convolution [kh, kw, in, out], in one of its `groups`.
    """
    axis = AXES[direction]
    if pattern.kind != "fan_in" or weight.ndim != 4:
        return _in_blocks(weight, pattern, axis)
    if groups > 1 and direction == "out":
        parts = [search(part, pattern, direction) for part in np.split(weight, groups, axis)]
        return np.concatenate(parts, axis)
    rows = np.moveaxis(weight, -3 - axis, 0)
    mask = magnitude_mask(rows.reshape(len(rows), -1), pattern, -1)
    return np.moveaxis(mask.reshape(rows.shape), 0, -3 - axis)


def masked(array: Array, mask: Mask, out: Array) -> None:
    """out = array * mask, in blocks at the same time."""
    rows_in_parallel(lambda a, m, o: np.multiply(a, m, out=o), array, mask, out)


def _in_blocks(array: Array, pattern: Pattern, axis: int) -> Mask:
    """The magnitude mask, searched in blocks of whole groups at the same time where groups do not share columns."""
    if pattern.kind != "nm" or array.ndim < 2:
        return magnitude_mask(array, pattern, axis)
    rows = array.reshape(-1, array.shape[-1])
    step = pattern.m if axis == -2 else 1
    if axis == -2 and array.shape[-2] % step:
        return magnitude_mask(array, pattern, axis)
    mask = np.empty(rows.shape, np.bool_)
    size = max(1, BLOCK_ELEMENTS // rows.shape[1] // step) * step

    def one(i: int) -> None:
        block = slice(i * size, (i + 1) * size)
        mask[block] = magnitude_mask(rows[block], pattern, axis)

    in_parallel(one, -(-len(rows) // size))
    return mask.reshape(array.shape)


def search_size(weight: Array, direction: str, groups: int = 1) -> tuple[int, int]:
    """Rows and their length, m x n of a mask search: a row runs along a direction at all kernel positions."""
    channels = weight.shape[AXES[direction]] // (groups if direction == "out" else 1)
    length = channels * (prod(weight.shape[:2]) if weight.ndim == 4 else 1)
    return weight.size // length, length


def add_decay(gradient: Array, weight: Array, used: Array, decay: float) -> None:
    """gradient += decay * (1 - mask) * W in place, with `used` = mask * W (NM-sparsity sparse_ops.py, `Sparse`)."""

    def add(g: Array, w: Array, u: Array) -> None:
        pruned = np.subtract(w, u, out=scratch("decay", g.shape, g.dtype))
        pruned *= decay
        g += pruned

    rows_in_parallel(add, gradient, weight, used)


def rescaled(pruned: Array, gradient: Array) -> Array:
    """A pruned gradient [B, H, W, C] times L1 before / (L1 after + 1e-4) per sample and channel, in place."""
    before, after = (np.abs(g).sum(axis=(1, 2), keepdims=True) for g in (gradient, pruned))
    pruned *= before / (after + RESCALE_EPSILON)
    return pruned
