"""Mask searches in training: what the kept elements of a weight or a gradient are chosen by."""

from __future__ import annotations

import copy

import numpy as np

from nmsim.errors import UnsupportedError
from nmsim.sparsity.bimask import backward_mask, best_permutation
from nmsim.sparsity.groups import Mask
from nmsim.sparsity.mask import magnitude_mask, prune, random_mask
from nmsim.sparsity.oneshot import InputStatistics, one_shot
from nmsim.sparsity.parts import Choice, Prune
from nmsim.sparsity.pattern import Pattern
from nmsim.sparsity.permutation import Method, search_permutation
from nmsim.sparsity.recipe import Recipe
from nmsim.sparsity.transposable import transposable_mask
from nmsim.train.layers.base import Array
from nmsim.train.parallel import rows_in_parallel
from nmsim.train.recipes.course import Place
from nmsim.train.recipes.rules import AXES, search, stream
from nmsim.workloads.search_ops import CANDIDATES, EXACT_TILES, EXHAUSTIVE_GROUPS

ONE_SHOT = ("wanda", "sparsegpt")


def needs_inputs(recipe: Recipe, prune: Prune) -> bool:
    """Whether the mask depends on the inputs of the layer."""
    prior = recipe.soft.prior if isinstance(recipe.soft, Choice) else ""
    return prune.mask in ONE_SHOT or prior in ONE_SHOT


def prune_gradient(
    gradient: Array, pattern: Pattern, out: Array, groups: int = 1, rng: np.random.Generator | None = None
) -> Array:
    """The gradient [..., out] times its mask, with groups along its last axis, by magnitude or at random; in `out`.

    A fan-in counts one of the `groups` of channels.
    """
    if pattern.kind == "nm" and rng is None:
        rows_in_parallel(lambda g, p: prune(g, pattern, -1, p), gradient, out)
        return out
    rows = gradient.reshape(*gradient.shape[:-1], groups, -1) if pattern.kind == "fan_in" else gradient
    mask = magnitude_mask(rows, pattern, -1) if rng is None else random_mask(rows.shape, pattern, rng, -1)
    return np.multiply(gradient, mask.reshape(gradient.shape), out=out)


class Finder:
    """Finds masks of weights; `statistics` are those of layer inputs, `orders` the channel permutations in use."""

    def __init__(self, seed: int):
        self.seed = seed
        self.statistics: dict[str, InputStatistics] = {}
        self.orders: dict[Place, Array] = {}

    def snapshot(self) -> Finder:
        """One that may search without a change to this one."""
        other = copy.copy(self)
        other.orders = dict(self.orders)
        return other

    def mask(
        self, place: Place, prune: Prune, recipe: Recipe, pattern: Pattern, weight: Array, groups: int,
        step: int, forward: Mask | None, renewed: bool,
    ) -> Mask:  # fmt: skip
        """The mask [..., in, out] of a weight with groups along the direction of `prune`.

        `forward` is the mask of FF where `weight` is what that keeps; `renewed`, whether channels are ordered anew.
        """
        axis = AXES[prune.direction]
        match prune.mask:
            case "random" if pattern.kind == "fan_in":
                return search(self._rng(place, step).random(weight.shape), pattern, prune.direction, groups)
            case "random":
                return random_mask(weight.shape, pattern, self._rng(place, step), axis)
            case "transposable":
                return transposable_mask(weight, pattern, "exact" if pattern.m <= EXACT_TILES else "swap")
            case "permuted":
                return self._twice_masked(place, pattern, weight, step, forward, renewed)
            case "wanda" | "sparsegpt":
                return self._one_shot(place[0], prune, pattern, weight)
        if recipe.permute:
            return self._permuted(place, pattern, weight, axis)
        return search(weight, pattern, prune.direction, groups)

    def prior(self, layer: str, recipe: Recipe, pattern: Pattern, weight: Array) -> Mask:
        """The mask that a learned choice starts from."""
        assert isinstance(recipe.soft, Choice)
        if recipe.soft.prior == "magnitude":
            return magnitude_mask(weight, pattern, AXES["in"])
        return one_shot(weight, pattern, recipe.soft.prior, self.statistics[layer], mask_only=True)[1]

    def _permuted(self, place: Place, pattern: Pattern, weight: Array, axis: int) -> Mask:
        """Groups along the order of input channels that keeps the most magnitude (ASP)."""
        columns = np.moveaxis(weight, axis, -1)
        method: Method = "exhaustive" if pattern.m <= EXHAUSTIVE_GROUPS else "swap"
        found = search_permutation(columns.reshape(-1, columns.shape[-1]), pattern, method)
        self.orders[place] = found.permutation
        ordered = magnitude_mask(np.take(weight, found.permutation, axis), pattern, axis)
        return np.take(ordered, np.argsort(found.permutation), axis)

    def _twice_masked(
        self, place: Place, pattern: Pattern, weight: Array, step: int, forward: Mask | None, renewed: bool
    ) -> Mask:
        """Groups along the order of output channels that keeps the most of what FF keeps (Bi-Mask)."""
        kept = np.ones(weight.shape, bool) if forward is None else forward
        if renewed:
            self.orders[place] = best_permutation(weight, kept, pattern, self._rng(place, step), CANDIDATES)
        return backward_mask(weight, kept, pattern, self.orders[place])

    def _one_shot(self, layer: str, prune: Prune, pattern: Pattern, weight: Array) -> Mask:
        """By the weight and its inputs; SparseGPT also corrects the weight, in place."""
        if layer not in self.statistics:
            raise UnsupportedError(f"{layer}: a mask by {prune.mask!r} needs the inputs of the layer")
        corrected, mask = one_shot(weight, pattern, prune.mask, self.statistics[layer])
        weight[...] = corrected
        return mask

    def _rng(self, place: Place, step: int) -> np.random.Generator:
        return stream(self.seed, "/".join(place), step)
