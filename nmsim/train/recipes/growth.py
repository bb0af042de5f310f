"""RigL and SRigL in training: the first mask, and what is dropped and grown at an update."""

from __future__ import annotations

import numpy as np

from nmsim.sparsity.distribution import weight_budget
from nmsim.sparsity.groups import Mask
from nmsim.sparsity.growth import carry_over, drop_fraction, initial_weight, rigl_update, srigl_update
from nmsim.sparsity.mask import random_mask
from nmsim.sparsity.moment import step_of
from nmsim.sparsity.parts import Growth
from nmsim.sparsity.pattern import Pattern
from nmsim.sparsity.timeline import Timeline
from nmsim.train.layers.base import Array


def neurons(array: Array) -> Array:
    """A weight [..., in, out] as [out, all inputs]."""
    return array.reshape(-1, array.shape[-1]).T


def weights(rows: Array, shape: tuple[int, ...]) -> Array:
    """Rows [out, all inputs] as a weight of this shape [..., in, out]."""
    return np.ascontiguousarray(rows.T).reshape(shape)


def first_mask(shape: tuple[int, ...], pattern: Pattern, rng: np.random.Generator) -> Mask:
    """A random mask: equally many inputs for each neuron, or a share of all weights."""
    rows = random_mask((shape[-1], int(np.prod(shape[:-1]))), pattern, rng, -1)
    return weights(rows, shape)


def start_anew(weight: Array, mask: Mask, rng: np.random.Generator) -> None:
    """Draw the weight, in place, from N(0, 2 / fan-in) with the inputs that each neuron keeps."""
    weight[...] = weights(initial_weight(neurons(mask), rng), weight.shape)


def fraction(growth: Growth, timeline: Timeline, step: int) -> float:
    """The share of the kept weights that an update after `step` steps replaces."""
    return drop_fraction(step, step_of(growth.end, timeline.steps), growth.fraction)


def grow(
    growth: Growth, pattern: Pattern, budget: float, weight: Array, mask: Mask, gradient: Array, share: float
) -> tuple[Mask, Pattern]:
    """The mask after an update, with its pattern; weights that it drops, and those it grows, are set to 0 in place.

    `budget` is the share of the weights that may be kept; a constant fan-in keeps at least one of each neuron.
    """
    w, m, g = (neurons(x) for x in (weight, mask, gradient))
    if growth.constant_fan_in:
        kept = max(weight_budget(weight.size, budget), len(w))
        new, _ = srigl_update(w, m, g, share, kept, gamma=growth.salience, ablate=growth.ablate)
        pattern = Pattern.fan_in(int(new.sum(axis=1).max()))
    else:
        new = rigl_update(w, m, g, share)
    weight[...] = weights(carry_over(w, m, new), weight.shape)
    return weights(new, weight.shape), pattern
