"""Soft masks that are functions of the weight: PDP's sigmoid around a threshold, and powers of a weight."""

from __future__ import annotations

from math import prod

import numpy as np
from numpy.typing import ArrayLike

from nmsim.errors import PatternError, ShapeError, UnsupportedError
from nmsim.sparsity.groups import Array, Mask, resolve
from nmsim.sparsity.mask import magnitude_mask
from nmsim.sparsity.pattern import Pattern


def pdp_ratio(epoch: int, target: float, eps: float = 0.015) -> float:
    """The share pruned in an epoch, min(1, eps (epoch + 1)) target; eps as in PQuant (nroope/PQuant, pdp layer)."""
    return min(1.0, eps * (epoch + 1)) * target


def pdp_threshold(scores: ArrayLike, ratio: float) -> float:
    """The threshold t of a layer of which a share `ratio` in [0, 1) is pruned, anywhere (PDP, arXiv 2305.11203).

    Half-way between the k-th and the (k+1)-th largest |score| of the n scores (weights, or norms of channels), with
    k = int((1 - ratio) n), at least 1; after the n-th comes 0. Raises PatternError for another ratio and for NaN.
    """
    if not 0.0 <= ratio < 1.0:
        raise PatternError(f"the share pruned lies in [0, 1), not {ratio!r}")
    scores = _real(scores)
    if scores.size == 0:
        raise ShapeError("an array without elements has no threshold")
    kept = max(1, int((1 - ratio) * scores.size))
    return float(_between(scores, magnitude_mask(scores, Pattern.unstructured(kept / scores.size)), None, -1))


def pdp_group_threshold(weight: ArrayLike, pattern: Pattern | str, axis: int | None = None) -> Array:
    """The thresholds of n:m groups along `axis` (None: the pattern's own), each repeated for all of its group.

    Half-way between the n-th and the (n+1)-th largest |w| of the group, 0 coming after its last, so that a soft mask
    above 1/2 is the magnitude mask. The shape of the weight. Raises PatternError for what is no n:m pattern.
    """
    weight = _real(weight)
    pattern, axis = resolve(pattern, axis, weight.ndim)
    if pattern.kind != "nm":
        raise PatternError(f"groups with a threshold need a pattern n:m with n < m, not {pattern}")
    if weight.size == 0:
        return weight
    return _between(weight, magnitude_mask(weight, pattern, axis), pattern.m, axis)


def channel_norms(weight: ArrayLike, axis: int, mean: bool = False) -> Array:
    """The L2 norm of each channel, with every axis but `axis` of length 1; `mean`: the root of the mean square.

    PQuant takes the norm; with the mean, tau means the same in layers of any size.
    """
    weight = _real(weight)
    _, axis = resolve("dense", axis, weight.ndim)
    return np.sqrt(_squares(weight, tuple(i for i in range(weight.ndim) if i != axis), mean))


def pdp_mask(scores: ArrayLike, threshold: ArrayLike, tau: float) -> Array:
    """sigmoid((s² - t²) / tau), the soft mask of PDP; scores and threshold broadcast.

    It is the softmax of s² and t² at temperature tau: exactly 1/2 at |s| = t. Raises UnsupportedError unless tau > 0.
    """
    scores = np.abs(_real(scores))
    threshold = np.asarray(threshold, scores.dtype)
    z = (scores - threshold) * (scores + threshold) / _positive_tau(tau)
    with np.errstate(under="ignore"):
        e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1, e) / (1 + e)


def pdp_gradient(
    weight: ArrayLike,
    mask: ArrayLike,
    tau: float,
    upstream: ArrayLike,
    *,
    threshold: ArrayLike | None = None,
    group: int | None = None,
    axis: int = -1,
    mean: bool = False,
) -> Array:
    """The gradient to the weight w of a loss with gradient `upstream` = G to the forward weight m w.

    With t held constant, G (m + 2 w² m(1-m) / tau). This is the default: t is an order statistic, whose derivative
    loads the sum over all that share it on the two elements beside it and on no other. A soft mask of channels (the
    `pdp_mask` of `channel_norms`, with the same `mean`) has axes of length 1; its channel gives and takes as one.

    With `threshold` (the argument of `pdp_mask`) t is differentiated too; `group` consecutive elements along `axis`
    share one, None: all of the mask do. Where two scores tie at the threshold there is no derivative: each gets the
    part of one alone. Raises ShapeError for a mask that does not broadcast to the weight.
    """
    weight, mask, upstream = _real(weight), _real(mask), np.asarray(upstream)
    reduced = _reduced_axes(weight, mask, upstream)
    share = 1 / prod(weight.shape[i] for i in reduced) if mean else 1
    to_square = np.sum(upstream * weight, axis=reduced, keepdims=True) * mask * (1 - mask) / _positive_tau(tau)
    if threshold is not None:
        scores = np.sqrt(_squares(weight, reduced, mean))
        to_square += _through_threshold(scores, np.asarray(threshold, mask.dtype), to_square, group, axis)
    return upstream * mask + 2 * share * weight * to_square


def powerprop_weight(theta: ArrayLike, alpha: float) -> Array:
    """The weight theta |theta|^(alpha - 1) of the parameter theta (Powerpropagation, arXiv 2110.00296, equation 2).

    Raises UnsupportedError for alpha below 1, where the gradient is infinite at 0.
    """
    theta = np.asarray(theta)
    return theta * np.abs(theta) ** (_power(alpha) - 1)


def powerprop_gradient(theta: ArrayLike, alpha: float, upstream: ArrayLike) -> Array:
    """The gradient to theta, alpha |theta|^(alpha - 1) G, of a loss with gradient `upstream` = G to the weight."""
    return np.asarray(upstream) * (_power(alpha) * np.abs(theta) ** (float(alpha) - 1))


def powerprop_theta(weight: ArrayLike, alpha: float) -> Array:
    """The parameter sign(w) |w|^(1 / alpha) whose weight is w, so that training starts from the same network.

    As the authors' notebook draws it (deepmind-research/powerpropagation, `PowerPropVarianceScaling`).
    """
    weight = np.asarray(weight)
    return np.sign(weight) * np.abs(weight) ** (1 / _power(alpha))


def _between(scores: Array, kept: Mask, group: int | None, axis: int) -> Array:
    """Half-way between the least |score| kept and the greatest pruned, in each group."""
    size = np.abs(scores)
    weakest = _over_groups(np.minimum, np.where(kept, size, np.inf), group, axis)
    strongest = _over_groups(np.maximum, np.where(kept, 0, size), group, axis)
    return (weakest + strongest) / 2


def _through_threshold(scores: Array, t: Array, to_square: Array, group: int | None, axis: int) -> Array:
    """What the threshold adds to the gradient to the squared scores s².

    dL/dt = -2 t sum(dL/ds²) over the group; t is the mean of two scores s, and ds/d(s²) = 1 / (2 s).
    """
    kept = scores > t
    weakest = _over_groups(np.minimum, np.where(kept, scores, np.inf), group, axis)
    strongest = _over_groups(np.maximum, np.where(kept, 0, scores), group, axis)
    edge = (scores == np.where(kept, weakest, strongest)) & (scores > 0)
    pull = -t * _over_groups(np.add, to_square, group, axis) / 2
    return np.where(edge, pull / np.where(edge, scores, 1), 0)


def _over_groups(reduce: np.ufunc, values: Array, group: int | None, axis: int) -> Array:
    """A reduction of each group, repeated for its elements; of everything where `group` is None."""
    if group is None:
        return reduce.reduce(values, axis=None)
    length = values.shape[axis]
    starts = np.arange(0, length, group)
    return np.repeat(reduce.reduceat(values, starts, axis=axis), np.minimum(group, length - starts), axis=axis)


def _squares(weight: Array, axes: tuple[int, ...], mean: bool) -> Array:
    return (np.mean if mean else np.sum)(weight * weight, axis=axes, keepdims=True)


def _reduced_axes(weight: Array, mask: Array, upstream: Array) -> tuple[int, ...]:
    """The axes over which a mask of channels is the same."""
    if weight.shape != upstream.shape:
        raise ShapeError(f"a weight {list(weight.shape)} with a gradient {list(upstream.shape)}")
    fits = mask.ndim == weight.ndim and all(a in (1, b) for a, b in zip(mask.shape, weight.shape, strict=True))
    if not fits:
        raise ShapeError(f"a mask {list(mask.shape)} does not broadcast to a weight {list(weight.shape)}")
    return tuple(i for i in range(weight.ndim) if mask.shape[i] != weight.shape[i])


def _real(array: ArrayLike) -> Array:
    """As floating point of at least single precision, in which squares of half precision do not overflow."""
    array = np.asarray(array)
    if array.dtype.kind not in "biuf":
        raise PatternError(f"a soft mask needs real numbers, not {array.dtype}")
    return array.astype(np.result_type(array.dtype, np.float32), copy=False)


def _positive_tau(tau: float) -> float:
    if not 0 < tau < np.inf:
        raise UnsupportedError(f"tau must be above 0, not {tau!r}")
    return float(tau)


def _power(alpha: float) -> float:
    if not 1 <= alpha < np.inf:
        raise UnsupportedError(f"alpha must be at least 1, not {alpha!r}: below, the gradient is infinite at 0")
    return float(alpha)
