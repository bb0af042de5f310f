"""Bi-Mask: a second n:m mask for the backward product, with groups along permuted output channels."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nmsim.errors import PatternError, ShapeError
from nmsim.sparsity.groups import Array, Mask, blocks
from nmsim.sparsity.mask import magnitude_mask
from nmsim.sparsity.pattern import Pattern

Orders = NDArray[np.int64]


def backward_mask(
    weight: ArrayLike, forward_mask: ArrayLike, pattern: Pattern | str, permutation: ArrayLike | None = None
) -> Mask:
    """The mask of the weight in the input gradient, dX = dY (W * mask)^T, a subset of the forward mask.

    `weight` and `forward_mask` are [..., in, out]. Of the forward-masked weight the n largest |w| of every m output
    channels are kept, neighbours being those of the order `permutation` [out] (None: as they are); the mask stands in
    the original order. Rule: zyxxmu/Bi-Mask CnnModels/utils/conv_type.py.

    Raises PatternError for a pattern that is not n:m, NaN and an order that is no permutation; ShapeError for arrays of
    different shapes.
    """
    weight, forward, pattern = _checked(weight, forward_mask, pattern)
    masked = np.where(forward, weight, np.zeros((), weight.dtype))
    if permutation is None:
        return magnitude_mask(masked, pattern, axis=-1) & forward
    order = _orders(np.asarray(permutation)[None], weight.shape[-1])[0]
    kept = np.empty(weight.shape, dtype=np.bool_)
    kept[..., order] = magnitude_mask(masked[..., order], pattern, axis=-1)
    return kept & forward


def kept_counts(
    weight: ArrayLike, forward_mask: ArrayLike, pattern: Pattern | str, permutations: ArrayLike
) -> NDArray[np.int64]:
    """How many non-zeros the backward mask keeps for each of the orders [candidates, out] of the output channels.

    A group with c non-zeros after the forward mask keeps min(n, c) of them, so no magnitudes are compared.
    Raises as `backward_mask` does.
    """
    weight, forward, pattern = _checked(weight, forward_mask, pattern)
    orders = _orders(np.asarray(permutations), weight.shape[-1])
    survivors = (forward & (weight != 0)).reshape(-1, weight.shape[-1]).view(np.uint8)
    padding = -weight.shape[-1] % pattern.m
    places = np.pad(orders, ((0, 0), (0, padding)), constant_values=-1)
    counts = np.zeros(len(orders), dtype=np.int64)
    for rows in blocks(len(survivors), places.shape[1] // 8):
        channels = np.ascontiguousarray(np.pad(survivors[rows], ((0, 0), (0, 1))).T)
        for some in blocks(len(orders), channels.size):
            grouped = channels[places[some]].reshape(len(places[some]), -1, pattern.m, channels.shape[1])
            found = np.add.reduce(grouped, axis=2, dtype=np.uint8)
            counts[some] += np.minimum(found, pattern.n).sum(axis=(1, 2), dtype=np.int64)
    return counts


def best_permutation(
    weight: ArrayLike,
    forward_mask: ArrayLike,
    pattern: Pattern | str,
    rng: np.random.Generator | np.random.RandomState,
    candidates: int = 100,
) -> NDArray[np.int64]:
    """The random order of the output channels, of `candidates` drawn from `rng`, whose backward mask keeps most.

    Most by `kept_counts`; the first of equal ones. A legacy RandomState draws the orders of the published code.
    Raises as `backward_mask` does, and PatternError where there is no candidate.
    """
    weight, forward, pattern = _checked(weight, forward_mask, pattern)
    if candidates < 1:
        raise PatternError(f"no best of {candidates} candidates; at least 1 is drawn")
    orders = np.stack([rng.permutation(weight.shape[-1]) for _ in range(candidates)])
    return orders[kept_counts(weight, forward, pattern, orders).argmax()]


def _checked(weight: ArrayLike, forward_mask: ArrayLike, pattern: Pattern | str) -> tuple[Array, Mask, Pattern]:
    weight, forward, pattern = np.asarray(weight), np.asarray(forward_mask), Pattern.parse(pattern)
    if pattern.kind != "nm":
        raise PatternError(f"a backward mask is n:m with n < m, not {pattern}")
    if weight.ndim < 2 or weight.shape != forward.shape:
        raise ShapeError(f"a weight [..., in, out] and its mask differ: {weight.shape} and {forward.shape}")
    return weight, forward.astype(np.bool_), pattern


def _orders(permutations: Array, length: int) -> Orders:
    fits = permutations.ndim == 2 and permutations.shape[1] == length
    if not fits or not (np.sort(permutations, axis=1) == np.arange(length)).all():
        raise PatternError(f"not permutations of {length} output channels: {permutations.tolist()!r:.60}")
    return permutations
