"""Learned masks: each group of m weights draws one of the C(m, n) masks that keep n of them (MaskLLM)."""

from __future__ import annotations

from functools import cache
from itertools import combinations
from math import comb, prod

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nmsim.errors import PatternError, ShapeError, UnsupportedError
from nmsim.sparsity.groups import Array, Mask, resolve
from nmsim.sparsity.pattern import Pattern

MAX_CANDIDATES = 5000
"""Logits of a group beyond which a pattern is refused: 4:16 has 1,820 of them, 8:16 already 12,870."""


def candidates(pattern: Pattern | str) -> Mask:
    """The masks of one group, [C(m, n), m], in lexicographic order of the places kept; read-only.

    2:4 gives 1100, 1010, 1001, 0110, 0101, 0011, the order of NVlabs/MaskLLM (learnable_sparsity). Raises PatternError
    for what is no n:m pattern and for more than MAX_CANDIDATES masks.
    """
    pattern = Pattern.parse(pattern)
    if pattern.kind != "nm":
        raise PatternError(f"candidates need a pattern n:m with n < m, not {pattern}")
    count = comb(pattern.m, pattern.n)
    if count > MAX_CANDIDATES:
        raise PatternError(f"{pattern} has {count:,} candidates for each group; at most {MAX_CANDIDATES:,} are learned")
    return _table(pattern.n, pattern.m)


def gumbel_noise(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
    """Gumbel noise, with which the argmax of noisy logits is a draw from their softmax."""
    return rng.gumbel(size=shape)


def soft_choice(logits: ArrayLike, gumbel: ArrayLike | float, kappa: float, tau: float) -> Array:
    """softmax((kappa logits + gumbel) / tau) over the last axis: [groups, C] -> [groups, C] (arXiv 2409.17481).

    A float 0 for `gumbel` leaves the noise out. The type of the logits. Raises UnsupportedError unless kappa and tau
    are above 0.
    """
    logits = np.asarray(logits)
    kappa, tau = _positive("kappa", kappa), _positive("tau", tau)
    choice = kappa * logits.astype(np.result_type(logits.dtype, np.float32))
    choice += np.asarray(gumbel, choice.dtype)
    choice /= tau
    choice -= choice.max(axis=-1, keepdims=True)
    with np.errstate(under="ignore"):
        np.exp(choice, out=choice)
        choice /= choice.sum(axis=-1, keepdims=True)
    return choice


def soft_mask(choice: ArrayLike, pattern: Pattern | str, shape: tuple[int, ...], axis: int | None = None) -> Array:
    """The mask of a weight of this shape: each group's mean of its candidates, weighted by its `choice` [groups, C].

    Groups are in row-major order of the weight with `axis` (None: the pattern's own) moved last. Raises ShapeError
    where the length along the axis is no multiple of m, or the groups are not as many as the choices.
    """
    choice, table = np.asarray(choice), candidates(pattern)
    _check_choice(choice, table, shape)
    return _from_groups(_product(choice, table), pattern, shape, axis)


def logit_gradient(
    choice: ArrayLike,
    mask_gradient: ArrayLike,
    pattern: Pattern | str,
    kappa: float,
    tau: float,
    axis: int | None = None,
) -> Array:
    """The gradient to the logits, [groups, C], of a loss with `mask_gradient` to the mask (the weight's shape).

    With y the soft choice and d the gradient to it: kappa / tau · y (d - sum(y d)).
    """
    choice, table = np.asarray(choice), candidates(pattern)
    factor = _positive("kappa", kappa) / _positive("tau", tau)
    mask_gradient = np.asarray(mask_gradient)
    _check_choice(choice, table, mask_gradient.shape)
    gradient = _product(_to_groups(mask_gradient, pattern, axis).astype(choice.dtype, copy=False), table.T)
    gradient -= np.einsum("gc,gc->g", choice, gradient)[:, None]
    gradient *= choice
    gradient *= factor
    return gradient


def best_mask(logits: ArrayLike, pattern: Pattern | str, shape: tuple[int, ...], axis: int | None = None) -> Mask:
    """The mask of inference: the candidate of largest logit of each group, the first between equals."""
    logits, table = np.asarray(logits), candidates(pattern)
    _check_choice(logits, table, shape)
    return _from_groups(table[logits.argmax(axis=-1)], pattern, shape, axis)


def with_prior(
    logits: ArrayLike,
    prior: ArrayLike,
    pattern: Pattern | str,
    axis: int | None = None,
    strength: float = 3.0,
    centre: float = 1.0,
) -> Array:
    """Logits that favour the candidates like a given mask: + (overlap - centre) · std(logits) · strength.

    `overlap` counts the entries kept by both the candidate and `prior` (the weight's shape); the standard deviation is
    the unbiased one of all logits. `centre` moves all logits alike and so changes no choice: 1 is what the published
    code takes for every pattern, n/2 what the paper writes.
    """
    logits, table, prior = np.asarray(logits), candidates(pattern), np.asarray(prior)
    _check_choice(logits, table, prior.shape)
    overlap = _product(_to_groups(prior != 0, pattern, axis).astype(logits.dtype), table.T)
    return logits + (overlap - centre) * (logits.std(ddof=1) * strength)


def regularizer(weight: ArrayLike, mask: ArrayLike) -> tuple[float, Array]:
    """sum((W · mask)²) and its gradient to the mask, 2 W² mask; MaskLLM takes a small multiple of it off the loss."""
    weight, mask = np.asarray(weight), np.asarray(mask)
    if weight.shape != mask.shape:
        raise ShapeError(f"shapes differ: {list(weight.shape)} and {list(mask.shape)}")
    product = weight * mask
    return float(np.sum(np.square(product, dtype=np.float64))), 2 * weight * product


def linear_schedule(first: float, last: float, step: int, steps: int) -> float:
    """The value at a step on the line from `first` at step 0 to `last` at `steps`, and `last` after it.

    MaskLLM: kappa 100 to 500, tau 4 to 0.05, the regularizer's coefficient 1e-5 to 0.
    """
    if steps < 1 or step < 0:
        raise UnsupportedError(f"a schedule has steps of at least 1 and a step of at least 0, not {steps} and {step}")
    return first + (last - first) * min(1.0, step / steps)


@cache
def _table(n: int, m: int) -> Mask:
    places = np.array(list(combinations(range(m), n)))
    table = np.zeros((len(places), m), np.bool_)
    np.put_along_axis(table, places, True, axis=1)
    table.flags.writeable = False
    return table


def _product(rows: Array, table: Mask) -> Array:
    """rows @ table, [groups, C] @ [C, m]: transposed, because BLAS is many times slower on tall, thin operands."""
    return np.ascontiguousarray((table.T.astype(rows.dtype) @ rows.T).T)


def _to_groups(array: Array, pattern: Pattern | str, axis: int | None) -> Array:
    """The array as [groups, m]."""
    pattern, axis = resolve(pattern, axis, array.ndim)
    _check_length(array.shape, pattern, axis)
    return np.moveaxis(array, axis, -1).reshape(-1, pattern.m)


def _from_groups(groups: Array, pattern: Pattern | str, shape: tuple[int, ...], axis: int | None) -> Array:
    """The inverse of `_to_groups`: a C-ordered array."""
    pattern, axis = resolve(pattern, axis, len(shape))
    _check_length(shape, pattern, axis)
    moved = (*shape[:axis], *shape[axis + 1 :], shape[axis])
    return np.ascontiguousarray(np.moveaxis(groups.reshape(moved), -1, axis))


def _check_length(shape: tuple[int, ...], pattern: Pattern, axis: int) -> None:
    if shape[axis] % pattern.m:
        raise ShapeError(f"a learned {pattern} mask needs a multiple of {pattern.m} along axis {axis} of {list(shape)}")


def _check_choice(choice: Array, table: Mask, shape: tuple[int, ...]) -> None:
    count, m = table.shape
    groups = prod(shape) // m
    if choice.shape != (groups, count):
        raise ShapeError(
            f"a weight {list(shape)} has {groups} groups of {m} with {count} candidates each, not {list(choice.shape)}"
        )


def _positive(name: str, value: float) -> float:
    if not 0 < value < np.inf:
        raise UnsupportedError(f"{name} must be above 0, not {value!r}")
    return float(value)
