"""Pruning a trained weight once: by magnitude, by Wanda's scores, or by SparseGPT, which also corrects what is kept.

Weights are [..., in, out] as the trainer has them, groups run along `in` (axis -2). The leading axes are kernel
positions: a convolution [kh, kw, in, out] is pruned as the matrix [kh kw in, out] that multiplies its patches, and
its statistics are those of patches [..., kh kw in]; a group never spans two positions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from nmsim.errors import PatternError, ShapeError, UnsupportedError, unknown
from nmsim.sparsity.groups import Array, Mask
from nmsim.sparsity.inputs import InputStatistics, finite
from nmsim.sparsity.mask import magnitude_mask, top_n_mask
from nmsim.sparsity.pattern import Pattern

CHUNK_INPUTS, SMALL_FACTOR = 16, 64
"""Tokens widened to float64 at once; inputs updated at once in a block without groups; triangles inverted whole."""


class Pruned(NamedTuple):
    """A pruned weight in its shape and type, its mask (True where kept), and the loss that SparseGPT estimates."""

    weight: Array
    mask: Mask
    loss: float


def one_shot(
    weight: ArrayLike,
    pattern: Pattern | str,
    method: str = "magnitude",
    statistics: InputStatistics | None = None,
    *,
    mask_only: bool = False,
) -> tuple[Array, Mask]:
    """The pruned weight [..., in, out] and its mask, by a method of METHODS.

    `magnitude` keeps the largest |w|; `wanda` the largest |w| times the norm of its input; `sparsegpt` also updates
    what it keeps, unless `mask_only`: the given weights under its mask, the prior of MaskLLM (arXiv 2409.17481).
    The last two need `statistics` of the inputs, SparseGPT with `hessian=True`. A fan-in, and Wanda's unstructured
    pattern, are counted for each output over all its inputs; other unstructured ones over the whole weight, or for
    SparseGPT over each block of inputs.

    Raises UnsupportedError for another method, ShapeError for sizes that do not go together or statistics that are
    missing, PatternError for a pattern that the method has not and weights that are not finite.
    """
    if method not in METHODS:
        raise UnsupportedError(unknown("one-shot method", method, METHODS))
    array = _weight(weight)
    pruned, mask = METHODS[method](array, Pattern.parse(pattern), statistics)
    return (_under(array, mask) if mask_only else pruned), mask


def wanda_scores(weight: ArrayLike, scaler: ArrayLike) -> Array:
    """|w_ij| sqrt(scaler_i), the scores of Wanda (arXiv 2306.11695, equation 1), in the weight's shape, float64.

    `scaler` [in] is `InputStatistics.scaler`; kernel positions included. Raises ShapeError for another length.
    """
    weight, scaler = _weight(weight), np.asarray(scaler)
    inputs = math.prod(weight.shape[:-1])
    if scaler.shape != (inputs,):
        raise ShapeError(f"a scaler {list(scaler.shape)} for a weight {list(weight.shape)}, which needs [{inputs}]")
    if (finite(scaler, "scalers") < 0).any():
        raise PatternError(f"a scaler is a mean of squares and not negative: {scaler.min():g}")
    norms = np.sqrt(scaler, dtype=np.float64).reshape(*weight.shape[:-1], 1)
    return np.abs(weight, dtype=np.float64) * norms


def sparsegpt(
    weight: ArrayLike,
    pattern: Pattern | str,
    hessian: ArrayLike,
    *,
    damping: float = 0.01,
    block: int = 128,
    dtype: str = "float64",
) -> Pruned:
    """SparseGPT (arXiv 2301.00774, algorithm 1): the pruned weight [..., in, out], its mask and its loss.

    With H the `hessian` [in, in] plus `damping` times its mean diagonal, and U the upper factor of H^-1 = U^T U, the
    inputs i are visited in order: those pruned leave the error e_i = w_i / U_ii, of which e_i U_ij is taken from
    each later input j. The loss is sum(e^2) / 2, half the trace of D^T H D for the change D of the weight: the squared
    error of the outputs per sample, were H not damped. An input that is never non-zero gets the weight 0.

    n:m keeps, at the first input of each group, the n largest |w_i| / U_ii of the weights as updated so far; a tail
    of r inputs keeps min(n, r). `block` inputs, in whole groups, are updated before the rest of the weight is; it
    changes n:m in rounding only. An unstructured pattern keeps its share of the same scores in each block, over all
    outputs (the published code prunes one more). Rounding apart, IST-DASLab/sparsegpt `sparsegpt.py` otherwise.

    Works in `dtype` (float64 or float32). Raises PatternError for other kinds of pattern and values that are not
    finite, ShapeError for sizes that do not go together and an H that is not positive definite.
    """
    array, pattern = _weight(weight), Pattern.parse(pattern)
    if dtype not in ("float32", "float64"):
        raise UnsupportedError(unknown("precision of SparseGPT", dtype, ("float32", "float64")))
    if not (0 <= damping < math.inf) or block < 1:
        raise ShapeError(f"damping is finite and at least 0, a block at least 1 input; not {damping} and {block}")
    if pattern.kind not in ("dense", "nm", "unstructured"):
        raise PatternError(f"no SparseGPT for pattern {pattern}; it takes n:m, unstructured:D and dense")
    h = _hessian(hessian, math.prod(array.shape[:-1]), dtype)
    if pattern.is_dense:
        return Pruned(array.copy(), np.ones(array.shape, np.bool_), 0.0)
    w = array.reshape(-1, array.shape[-1]).astype(dtype)
    w[h.diagonal() == 0] = 0
    blocks = _blocks(pattern, array.shape[-2], len(w), block)
    mask, loss = _eliminate(w, _inverse_factor(h, damping), pattern, blocks)
    result = array.dtype if array.dtype.kind == "f" else np.float64
    return Pruned(w.reshape(array.shape).astype(result), mask.reshape(array.shape), loss)


def _eliminate(w: Array, u: Array, pattern: Pattern, blocks: Iterator[list[slice]]) -> tuple[Mask, float]:
    """Prunes w [in, out] in place, block by block; its mask and the loss."""
    kept = np.zeros(w.shape, dtype=np.bool_)
    loss = 0.0
    for groups in blocks:
        block = slice(groups[0].start, groups[-1].stop)
        if pattern.kind == "unstructured":
            kept[block] = _best(w, u, block, pattern)
        errors = np.zeros_like(w[block])
        for group in groups:
            done = group.start - block.start
            w[group] -= u[block.start : group.start, group].T @ errors[:done]
            if pattern.kind == "nm":
                kept[group] = _best(w, u, group, pattern)
            _eliminate_group(w[group], u[group, group], kept[group], errors[done : done + len(w[group])])
        w[block.stop :] -= u[block, block.stop :].T @ errors
        loss += float(np.vdot(errors, errors)) / 2
    return kept, loss


def _eliminate_group(w: Array, u: Array, kept: Mask, errors: Array) -> None:
    """Visits the inputs of one group, w and errors [inputs, out]: updates only what lies in the group."""
    pruned = ~kept
    for i, row in enumerate(w):
        np.divide(row, u[i, i], out=errors[i], where=pruned[i])
        np.copyto(row, 0, where=pruned[i])
        w[i + 1 :] -= u[i, i + 1 :, None] * errors[i]


def _best(w: Array, u: Array, inputs: slice, pattern: Pattern) -> Mask:
    """The mask of some inputs by |w| / U_ii, whose squares the loss sums."""
    return top_n_mask(np.abs(w[inputs]) / u.diagonal()[inputs, None], pattern, axis=0)


def _blocks(pattern: Pattern, length: int, inputs: int, block: int) -> Iterator[list[slice]]:
    """The blocks of the inputs, each the slices that are updated one after the other: the groups, for n:m."""
    if pattern.kind == "nm":
        groups = [s for start in range(0, inputs, length) for s in _slices(start, start + length, pattern.m)]
        per_block = max(1, block // pattern.m)
        return (groups[i : i + per_block] for i in range(0, len(groups), per_block))
    return (_slices(s.start, s.stop, CHUNK_INPUTS) for s in _slices(0, inputs, block))


def _slices(start: int, stop: int, step: int) -> list[slice]:
    return [slice(i, min(i + step, stop)) for i in range(start, stop, step)]


def _inverse_factor(h: Array, damping: float) -> Array:
    """U, upper triangular, of U^T U = H^-1 for the damped H; inputs without activity count as 1 in H.

    With the order of inputs reversed H = L L^T; reversed again, L^-1 is U.
    """
    diagonal = np.where(h.diagonal() == 0, 1, h.diagonal())
    np.fill_diagonal(h, diagonal + damping * diagonal.mean())
    try:
        lower = np.linalg.cholesky(h[::-1, ::-1])
    except np.linalg.LinAlgError:
        raise ShapeError(f"a Hessian not positive definite at damping {damping:g}; more damping makes it so") from None
    return np.ascontiguousarray(_inverse_lower(lower)[::-1, ::-1])


def _inverse_lower(lower: Array) -> Array:
    """The inverse of a lower triangular matrix, by halves: of (A 0; B C) it is (A' 0; -C' B A' C')."""
    if len(lower) <= SMALL_FACTOR:
        return np.tril(np.linalg.inv(lower))
    half = len(lower) // 2
    inverse = np.zeros_like(lower)
    inverse[:half, :half] = above = _inverse_lower(lower[:half, :half])
    inverse[half:, half:] = below = _inverse_lower(lower[half:, half:])
    inverse[half:, :half] = -below @ (lower[half:, :half] @ above)
    return inverse


def _by_magnitude(weight: Array, pattern: Pattern, statistics: InputStatistics | None) -> tuple[Array, Mask]:
    mask = _per_output(weight, pattern, magnitude_mask)
    return _under(weight, mask), mask


def _by_wanda(weight: Array, pattern: Pattern, statistics: InputStatistics | None) -> tuple[Array, Mask]:
    scores = wanda_scores(weight, _needed(statistics).scaler)
    if pattern.kind == "unstructured":
        pattern = Pattern.fan_in(max(1, pattern.kept(math.prod(weight.shape[:-1]))))
    mask = _per_output(scores, pattern, top_n_mask)
    return _under(weight, mask), mask


def _by_sparsegpt(weight: Array, pattern: Pattern, statistics: InputStatistics | None) -> tuple[Array, Mask]:
    return sparsegpt(weight, pattern, _needed(statistics).hessian)[:2]


Method = Callable[[Array, Pattern, InputStatistics | None], tuple[Array, Mask]]
METHODS: dict[str, Method] = {"magnitude": _by_magnitude, "wanda": _by_wanda, "sparsegpt": _by_sparsegpt}
"""The pruned weight and its mask by each method."""


def _needed(statistics: InputStatistics | None) -> InputStatistics:
    if statistics is None:
        raise ShapeError("wanda and sparsegpt need the statistics of the layer's inputs: an InputStatistics")
    return statistics


def _per_output(values: Array, pattern: Pattern, search: Callable[[Array, Pattern, int], Mask]) -> Mask:
    """The mask of values [..., in, out]; a fan-in counts the inputs of an output at all kernel positions."""
    if pattern.kind != "fan_in":
        return search(values, pattern, -2)
    return search(values.reshape(-1, values.shape[-1]), pattern, 0).reshape(values.shape)


def _under(weight: Array, mask: Mask) -> Array:
    return np.where(mask, weight, weight.dtype.type(0))


def _weight(weight: ArrayLike) -> Array:
    array = np.asarray(weight)
    if array.ndim < 2 or array.size == 0:
        raise ShapeError(f"a weight is [..., in, out] with elements, not {list(array.shape)}")
    return finite(array, "weights")


def _hessian(hessian: ArrayLike, inputs: int, dtype: str) -> Array:
    array = np.asarray(hessian)
    if array.shape != (inputs, inputs):
        raise ShapeError(f"a Hessian {list(array.shape)} for {inputs} inputs, which need [{inputs}, {inputs}]")
    return finite(array, "elements of the Hessian").astype(dtype)
