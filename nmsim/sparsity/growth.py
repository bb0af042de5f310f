"""Dynamic sparse training: which weights of a layer an update drops and which it grows, by RigL and by SRigL.

A layer is [out, in], its rows the neurons; a convolution [out, in, kh, kw] is reshaped to [out, in * kh * kw]. Masks
are True where a weight is active. Between equals the lower index, in the order of the memory, is kept or grown.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from nmsim.errors import PatternError, ShapeError, unknown
from nmsim.sparsity.groups import Array, Mask
from nmsim.sparsity.mask import random_mask
from nmsim.sparsity.pattern import Pattern

Places = NDArray[np.int64]
SalienceBase = Literal["sparse", "dense"]

SALIENCE_BASES = ("sparse", "dense")

_BELOW_ALL = -1
"""A score below every magnitude."""

_SAMPLED = 61
"""One score in so many is sampled; a prime, so that the sample does not follow the columns of a layer."""


def drop_fraction(step: int, end: int, alpha: float = 0.3) -> float:
    """The share of the active weights that an update at `step` drops: alpha / 2 * (1 + cos(pi * step / end)).

    0 from `end` on, which is usually 75 % of the run (RigL, arXiv 1911.11134, section 3). Raises PatternError for a
    negative step, an end that is not positive and an alpha outside [0, 1].
    """
    if not (step >= 0 and end > 0 and 0 <= alpha <= 1):
        raise PatternError(f"no drop fraction at step {step!r} of {end!r} with alpha {alpha!r}; 0 <= alpha <= 1")
    return alpha / 2 * (1 + math.cos(math.pi * step / end)) if step < end else 0.0


def rigl_update(weight: ArrayLike, mask: ArrayLike, dense_gradient: ArrayLike, fraction: float) -> Mask:
    """The mask after an update of RigL: of n active weights, floor(n * fraction) are replaced.

    The active weights of largest |w| are kept; of all others, those just dropped included, as many as were dropped
    are grown by largest |gradient|, both over the whole layer (arXiv 1911.11134, section 3; google-research/rigl).
    `dense_gradient` is that of the loss by all weights, [out, in]. What is carried over: `carry_over`.

    Raises ShapeError for arrays of other or different shapes, PatternError for values that are NaN or no floating
    point numbers and for a fraction outside [0, 1].
    """
    size, active, growth = _scores(weight, mask, dense_gradient)
    places = np.flatnonzero(active)
    dropped = _dropped(places.size, fraction)
    kept = _largest_of(places, size, places.size - dropped)
    growth.ravel()[kept] = _BELOW_ALL
    updated = _largest(growth.ravel(), dropped)
    updated[kept] = True
    return updated.reshape(active.shape)


def srigl_update(
    weight: ArrayLike,
    mask: ArrayLike,
    dense_gradient: ArrayLike,
    fraction: float,
    budget: int,
    *,
    gamma: float = 0.3,
    ablate: bool = True,
    salience_base: SalienceBase = "sparse",
) -> tuple[Mask, Mask]:
    """The mask after an update of SRigL, with the same fan-in k for every active neuron, and the ablated neurons [out].

    `budget` is the weights the layer may keep (`weight_budget`). Of n active weights p = floor(n * fraction) are
    dropped; where fewer than n - p are not 0, all that are 0. The update then

    - counts as salient the n - p weights of largest |w| and the p of largest |gradient|, over the whole layer;
    - ablates neurons with fewer salient weights than max(1, floor(gamma * base)), where `salience_base` is the fan-in
      of all neurons at this budget (`sparse`) or that of a dense neuron (`dense`); a gamma of 1 or more is the count
      itself. The threshold falls as far as needed to leave neurons enough for the budget;
    - sets k = budget // active neurons, keeps the n - p weights of largest |w| of the active neurons, and grows each
      by |gradient| to k weights. A neuron that would keep more than k keeps its k of largest |w|.

    (arXiv 2305.02299; calgaryml/condensed-sparsity, src/rigl_torch/rigl_constant_fan.py. Where a neuron would keep
    more than k, or where ablated neurons hold so many weights that the others have fewer than n - p, the published
    choice depends on an unstable sort; here no weight of 0 is kept.) Who is ablated is decided anew at every update,
    so that large gradients can bring a neuron back. `ablate` False keeps all neurons; an output layer needs it, or
    classes vanish. What is carried over: `carry_over`.

    Raises as `rigl_update`, and PatternError for a budget outside [1, size], a gamma that is not positive, an unknown
    base, and a budget of less than one weight per active neuron.
    """
    size, active, growth = _scores(weight, mask, dense_gradient)
    _check_srigl(active.shape, budget, gamma, salience_base)
    n_on = int(np.count_nonzero(active))
    places = np.flatnonzero(active & (size > 0))
    n_keep = min(n_on - _dropped(n_on, fraction), places.size)
    kept = _largest_of(places, size, n_keep)
    ablated = np.zeros(len(active), dtype=np.bool_)
    if ablate:
        counts = _salient(kept, growth, n_on - n_keep)
        ablated = counts < _threshold(counts, active.shape, budget, gamma, salience_base)
    fan_in = _fan_in(budget, ablated)
    if ablated.any():
        places = places[~ablated[places // active.shape[1]]]
        kept = _largest_of(places, size, min(n_keep, places.size))
    updated = _at_most(fan_in, kept, size)
    growth.ravel()[kept] = _BELOW_ALL
    room = np.where(ablated, 0, fan_in - np.count_nonzero(updated, axis=1))
    return updated | _largest_of_rows(growth, room), ablated


def carry_over(array: ArrayLike, before: ArrayLike, after: ArrayLike) -> Array:
    """A weight or a momentum after an update: its values where a weight was and stays active, else 0.

    Grown weights start at 0; one that is dropped and grown in the same update keeps its value. Raises ShapeError for
    masks of another shape.
    """
    array, old, new = np.asarray(array), np.asarray(before), np.asarray(after)
    _same_shapes(array, old, new)
    return np.where((old != 0) & (new != 0), array, array.dtype.type(0))


def constant_fan_in_mask(out: int, inputs: int, fan_in: int, rng: np.random.Generator) -> Mask:
    """A mask [out, inputs] with `fan_in` active weights at random places of every row.

    Raises ShapeError for sizes that are not positive, PatternError for a fan-in outside [1, inputs].
    """
    if out < 1 or inputs < 1:
        raise ShapeError(f"a layer has at least one neuron and one input, not [{out}, {inputs}]")
    if not 1 <= fan_in <= inputs:
        raise PatternError(f"no fan-in {fan_in} of {inputs} inputs; it lies from 1 to {inputs}")
    return random_mask((out, inputs), Pattern.fan_in(fan_in), rng)


def initial_weight(mask: ArrayLike, rng: np.random.Generator, dtype: DTypeLike = np.float32) -> Array:
    """Weights N(0, sqrt(2 / fan-in)) where the mask is True, the fan-in of a row being its active weights; 0 elsewhere.

    He initialisation on the sparse fan-in (SRigL, arXiv 2305.02299). Raises ShapeError unless the mask is [out, in].
    """
    active = np.asarray(mask) != 0
    _same_shapes(active)
    row, column = np.nonzero(active)
    deviation = np.sqrt(2 / np.maximum(1, np.count_nonzero(active, axis=1)))
    weight = np.zeros(active.shape, dtype=dtype)
    weight[row, column] = rng.standard_normal(row.size) * deviation[row]
    return weight


def _scores(weight: ArrayLike, mask: ArrayLike, gradient: ArrayLike) -> tuple[Array, Mask, Array]:
    """|w|, the mask as booleans and |gradient|, the magnitudes C-ordered arrays of their own."""
    w, active, g = np.asarray(weight), np.asarray(mask) != 0, np.asarray(gradient)
    _same_shapes(w, active, g)
    return _magnitude(w, "weights"), np.ascontiguousarray(active), _magnitude(g, "gradients")


def _magnitude(values: Array, what: str) -> Array:
    if values.dtype.kind != "f":
        raise PatternError(f"{what} are floating point numbers, not {values.dtype}")
    # Half precision is compared in software: wider is faster and ranks alike.
    size = np.abs(values, dtype=np.result_type(values.dtype, np.float32), order="C")
    if np.isnan(size.min()):
        raise PatternError(f"{int(np.isnan(size).sum())} of {size.size} {what} are NaN, which has no rank")
    return size


def _same_shapes(*arrays: Array) -> None:
    if arrays[0].ndim != 2 or arrays[0].size == 0 or len({array.shape for array in arrays}) > 1:
        shapes = ", ".join(str(list(array.shape)) for array in arrays)
        raise ShapeError(f"a layer and its masks are [out, in], all of one shape, not {shapes}")


def _dropped(count: int, fraction: float) -> int:
    if not 0 <= fraction <= 1:
        raise PatternError(f"the fraction of weights to drop lies from 0 to 1, not {fraction!r}")
    return int(count * fraction)


def _check_srigl(shape: tuple[int, ...], budget: int, gamma: float, base: str) -> None:
    if not 1 <= budget <= math.prod(shape):
        raise PatternError(f"no budget of {budget!r} weights for a layer {list(shape)} of {math.prod(shape)}")
    if not gamma > 0:
        raise PatternError(f"the share of salient weights gamma is above 0, not {gamma!r}; ablate=False ablates none")
    if base not in SALIENCE_BASES:
        raise PatternError(unknown("salience base", base, SALIENCE_BASES))


def _threshold(counts: Array, shape: tuple[int, ...], budget: int, gamma: float, base: str) -> float:
    """The salient weights below which a neuron is ablated."""
    out, inputs = shape
    fan_in = budget // out if base == "sparse" else inputs
    wanted = gamma if gamma >= 1 else max(1, math.floor(gamma * fan_in))
    fewest = budget // inputs
    if fewest >= out:
        return 0
    # The count of rank `fewest` from 0: budget // inputs + 1 neurons are enough to place the budget.
    return min(wanted, int(np.partition(counts, out - 1 - fewest)[out - 1 - fewest]))


def _fan_in(budget: int, ablated: Mask) -> int:
    active = ablated.size - int(np.count_nonzero(ablated))
    if budget < active:
        raise PatternError(f"a budget of {budget} leaves {active} active neurons without a weight each")
    return budget // active


def _salient(kept: Places, growth: Array, n_grow: int) -> Array:
    """The weights of each neuron that are kept or among the n_grow of largest |gradient|."""
    salient = _largest(growth.ravel(), n_grow)
    salient[kept] = True
    return np.count_nonzero(salient.reshape(growth.shape), axis=1)


def _at_most(fan_in: int, kept: Places, size: Array) -> Mask:
    """The mask of the kept places, of each neuron the `fan_in` of largest |w|."""
    mask = np.zeros(size.shape, dtype=np.bool_)
    mask.ravel()[kept] = True
    crowded = np.flatnonzero(np.count_nonzero(mask, axis=1) > fan_in)
    if crowded.size:
        sizes = np.where(mask[crowded], size[crowded], _BELOW_ALL)
        mask[crowded] = _largest_of_rows(sizes, np.full(crowded.size, fan_in))
    return mask


def _largest_of(places: Places, scores: Array, count: int) -> Places:
    """Of the places, those of the `count` largest scores."""
    return places.compress(_largest(scores.ravel().take(places), count))


def _largest(scores: Array, count: int) -> Mask:
    """The `count` largest of a vector."""
    if count == 0:
        return np.zeros(scores.shape, dtype=np.bool_)
    return _above(scores[None], _cut(scores, count).reshape(1, 1), np.array([count]))[0]


def _largest_of_rows(scores: Array, counts: Array) -> Mask:
    """The counts[i] largest of each row i of [rows, length]."""
    most = int(counts.max())
    if most == 0:
        return np.zeros(scores.shape, dtype=np.bool_)
    place = scores.shape[1] - most
    top = np.sort(np.partition(scores, place, axis=1)[:, place:], axis=1)
    threshold = np.take_along_axis(top, np.minimum(most - counts, most - 1)[:, None], axis=1)
    return _above(scores, threshold, counts)


def _cut(scores: Array, count: int) -> Array:
    """The score of rank `count` of a vector: among those above a guess from a sample, if these are enough, else of all.

    A guess four standard deviations of the sample below the rank is nearly always low enough, and leaves little more
    than `count` scores to partition. Where that is most of them, there is nothing to save.
    """
    sample = scores[::_SAMPLED]
    expected = count / _SAMPLED
    rank = math.ceil(expected + 4 * math.sqrt(expected)) + 1
    if 2 * rank < sample.size:
        guess = np.partition(sample, sample.size - rank)[sample.size - rank]
        likely = scores.take(np.flatnonzero(scores >= guess))
        if likely.size >= count:
            scores = likely
    return np.partition(scores, scores.size - count)[scores.size - count]


def _above(scores: Array, threshold: Array, counts: Array) -> Mask:
    """What is not below the threshold of its row, counts[i] in all: of what equals it the first."""
    kept = scores >= threshold
    # Rows that keep none, as ablated neurons, are spared the search for ties.
    kept[counts == 0] = False
    tied = np.count_nonzero(kept, axis=1) > counts
    if tied.any():
        kept[tied] = _first_of_equals(scores[tied], threshold[tied], counts[tied, None])
    return kept


def _first_of_equals(scores: Array, threshold: Array, counts: Array) -> Mask:
    """What is above the threshold of its row, and of what equals it the first, counts[i] in all."""
    above, equal = scores > threshold, scores == threshold
    room = counts - np.count_nonzero(above, axis=1, keepdims=True)
    return above | (equal & (np.cumsum(equal, axis=1) <= room))
