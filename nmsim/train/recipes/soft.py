"""Soft masks in training: the weight that FF multiplies by while pruned weights still have a part, and its gradient."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol, Self

import numpy as np

from nmsim.sparsity.candidates import (
    best_mask,
    candidates,
    gumbel_noise,
    linear_schedule,
    logit_gradient,
    regularizer,
    soft_choice,
    soft_mask,
    with_prior,
)
from nmsim.sparsity.decay import decay_gradient, soft_weight
from nmsim.sparsity.groups import Mask
from nmsim.sparsity.parts import Choice, Sigmoid
from nmsim.sparsity.pattern import Pattern
from nmsim.sparsity.recipe import Recipe
from nmsim.sparsity.soft import channel_norms, pdp_gradient, pdp_group_threshold, pdp_mask, pdp_threshold
from nmsim.train.layers.base import Array, Parameter
from nmsim.train.recipes.rules import AXES

IN = AXES["in"]


@dataclass(frozen=True)
class Moment:
    """What a soft mask depends on at a step.

    `beta` is the share that pruned weights keep, `progress` the share of the soft phase that has passed, `sparsity`
    the share pruned. `rng` draws noise; None in an evaluation.
    """

    pattern: Pattern
    beta: float
    progress: float
    sparsity: float
    rng: np.random.Generator | None = None


class Form(Protocol):
    """A soft mask of one layer; `searches` tells whether it needs the mask that a search finds."""

    searches: bool

    def weight(self, moment: Moment, weight: Array, mask: Mask | None, out: Array) -> Array:
        """The forward weight, written to `out`; keeps what `gradient` needs."""

    def gradient(self, gradient: Array) -> Array:
        """The gradient of the weight from that of the forward weight, which may be overwritten."""

    def parameters(self) -> Iterator[Parameter]:
        """What is learned beside the weight."""

    def snapshot(self) -> Form:
        """One whose use leaves this one as it is."""

    def settle(self) -> None:
        """The mask is hard from now on: nothing more is learned."""


class Plain:
    """A form that learns nothing beside the weight."""

    def parameters(self) -> Iterator[Parameter]:
        """Nothing."""
        return iter(())

    def snapshot(self) -> Self:
        """One whose use leaves this one as it is."""
        return copy.copy(self)

    def settle(self) -> None:
        """Nothing was learned."""


class FadingForm(Plain):
    """W (mask + (1 - mask) beta); gradient G, or G times the soft mask (`autodiff`)."""

    searches = True

    def __init__(self, autodiff: bool):
        self.autodiff = autodiff
        self._mask: Mask | None = None
        self._beta = 1.0

    def weight(self, moment: Moment, weight: Array, mask: Mask | None, out: Array) -> Array:
        """The weight with those the mask drops times beta."""
        assert mask is not None
        self._mask, self._beta = mask, moment.beta
        out[...] = soft_weight(weight, mask, moment.beta)
        return out

    def gradient(self, gradient: Array) -> Array:
        """G, or G times the mask values."""
        assert self._mask is not None
        return decay_gradient(gradient, self._mask, self._beta, "autodiff" if self.autodiff else "ste")


class SigmoidForm(Plain):
    """PDP: m = sigmoid((w² - t²) / tau), t by groups, by the share of the layer, or by that of its channels."""

    searches = True

    def __init__(self, sigmoid: Sigmoid):
        self.sigmoid = sigmoid
        self._weight = self._mask = np.empty(0)

    def weight(self, moment: Moment, weight: Array, mask: Mask | None, out: Array) -> Array:
        """The weight times its mask values."""
        scores = channel_norms(weight, -1, mean=True) if self.sigmoid.channels else weight
        if moment.pattern.kind == "nm" and not self.sigmoid.channels:
            threshold: Array | float = pdp_group_threshold(weight, moment.pattern, IN)
        else:
            threshold = pdp_threshold(scores, moment.sparsity)
        self._weight, self._mask = weight, pdp_mask(scores, threshold, self.sigmoid.tau)
        return np.multiply(weight, self._mask, out=out)

    def gradient(self, gradient: Array) -> Array:
        """G (m + 2 w² m (1 - m) / tau), the threshold held constant."""
        found = pdp_gradient(self._weight, self._mask, self.sigmoid.tau, gradient, mean=True)
        return found.astype(gradient.dtype, copy=False)


class ChoiceForm:
    """MaskLLM: W times the mean of the candidate masks, weighted by a Gumbel softmax of learned logits."""

    searches = False

    def __init__(self, choice: Choice, layer: str, shape: tuple[int, ...], pattern: Pattern, rng: np.random.Generator):
        groups = int(np.prod(shape)) // pattern.m
        logits = rng.standard_normal((groups, len(candidates(pattern)))) * choice.spread
        self.choice, self.pattern, self.primed = choice, pattern, choice.prior == "none"
        self.logits = Parameter(f"{layer}.logits", logits.astype(np.float32), decays=False, rate=choice.rate_factor)
        self._kept: tuple[Array, Array, Array, float, float, float] | None = None

    def prime(self, prior: Mask) -> None:
        """Raise the logits of the candidates that are like this mask; once."""
        favoured = with_prior(self.logits.value, prior, self.pattern, IN, self.choice.prior_strength)
        self.logits.value[...] = favoured
        self.primed = True

    def weight(self, moment: Moment, weight: Array, mask: Mask | None, out: Array) -> Array:
        """The weight times its mask values: noisy and soft in training, the best candidates in an evaluation."""
        if moment.rng is None:
            return np.multiply(weight, self.mask(weight.shape), out=out)
        temperature, scale = (
            linear_schedule(*ends, round(1000 * moment.progress), 1000)
            for ends in (self.choice.temperature, self.choice.scale)
        )
        noise = gumbel_noise(self.logits.value.shape, moment.rng)
        chosen = soft_choice(self.logits.value, noise, scale, temperature)
        values = soft_mask(chosen, self.pattern, weight.shape, IN)
        strength = self.choice.regularizer * (1.0 - moment.progress)
        self._kept = weight, chosen, values, scale, temperature, strength
        return np.multiply(weight, values, out=out)

    def gradient(self, gradient: Array) -> Array:
        """Sets the gradient of the logits; returns G times the mask values, that of the weight."""
        assert self._kept is not None
        weight, chosen, values, scale, temperature, strength = self._kept
        to_mask = gradient * weight
        if strength:
            to_mask -= strength * regularizer(weight, values)[1]
        self.logits.grad = logit_gradient(chosen, to_mask, self.pattern, scale, temperature, IN)
        gradient *= values
        return gradient

    def mask(self, shape: tuple[int, ...]) -> Mask:
        """The best candidate of each group."""
        return best_mask(self.logits.value, self.pattern, shape, IN)

    def parameters(self) -> Iterator[Parameter]:
        """The logits."""
        yield self.logits

    def snapshot(self) -> ChoiceForm:
        """One with logits of its own, which may be primed."""
        other = copy.copy(self)
        other.logits = replace(self.logits, value=self.logits.value.copy())
        return other

    def settle(self) -> None:
        """No gradient is left that would move the logits further."""
        self.logits.grad = None


def make_form(recipe: Recipe) -> Form:
    """The form of a soft recipe that learns nothing beside the weights."""
    if isinstance(recipe.soft, Sigmoid):
        return SigmoidForm(recipe.soft)
    return FadingForm(recipe.gradient == "autodiff")
