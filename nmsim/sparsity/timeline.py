"""The course of a recipe over a run: which pattern is in force when, and from which step products are sparse."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from nmsim.errors import PatternError, UnsupportedError
from nmsim.sparsity.decay import BetaDecay, CosineDecay, ExponentialDecay, LinearDecay
from nmsim.sparsity.moment import is_end, step_of
from nmsim.sparsity.parts import Decay, Growth, Sigmoid, Structure
from nmsim.sparsity.pattern import DENSE, Pattern
from nmsim.sparsity.recipe import Recipe
from nmsim.sparsity.structure import KINDS
from nmsim.specfile import MisfitError


@dataclass(frozen=True)
class Span:
    """Steps with one pattern: `pattern` is what masks have (dense: nothing is pruned), n:m for layers with groups.

    `soft`: pruned weights still have a part, so the forward product is dense. `adapters`: low-rank adapters train.
    """

    first_step: int
    steps: int
    pattern: Pattern
    soft: bool = False
    adapters: bool = False

    @property
    def prunes(self) -> bool:
        """Whether masks are in use."""
        return not self.pattern.is_dense

    @property
    def is_sparse(self) -> bool:
        """Whether the forward product may skip what the mask prunes."""
        return self.prunes and not self.soft


@dataclass(frozen=True)
class Timeline:
    """The spans of a run in order; the first begins at 0 and, unless that is the end, the last reaches `steps`."""

    recipe: Recipe
    pattern: Pattern
    steps: int
    start: int
    spans: tuple[Span, ...]

    @classmethod
    def of(cls, recipe: Recipe, pattern: Pattern, steps: int, start: int | None = None) -> Timeline:
        """The course of `recipe` with its final `pattern`; `start` is given where the run decides it.

        Raises MisfitError for a recipe that ends before it starts or never changes a growing mask, UnsupportedError
        for one whose start only a run can tell.
        """
        begin = _start(recipe, steps, start)
        if begin > steps:
            raise _misfit(recipe, ("start",), f"is step {begin} of {steps}: nothing is ever pruned")
        if pattern.is_dense or not recipe.prunes:
            return cls(recipe, pattern, steps, steps, (Span(0, steps, DENSE),))
        if recipe.growth:
            _check_growth(recipe, recipe.growth, begin, steps)
        course = _frames(recipe, pattern, begin, steps)
        dense = [Span(0, begin, DENSE)] if begin else []
        ends = [*(at for at, _, _ in course[1:]), steps]
        sparse = [Span(at, end - at, p, soft) for (at, p, soft), end in zip(course, ends, strict=True) if end >= at]
        spans = _with_adapters(recipe, [*dense, *sparse], begin, steps)
        return cls(recipe, pattern, steps, begin, tuple(s for s in spans if s.steps or s is spans[-1]))

    @classmethod
    def final(cls, recipe: Recipe, pattern: Pattern) -> Timeline:
        """One step as a whole run ends with it."""
        if pattern.is_dense or not recipe.prunes or is_end(recipe.start):
            return cls(recipe, pattern, 1, 1, (Span(0, 1, DENSE),))
        soft = recipe.soft is not None and is_end(recipe.soft.end)
        adapters = recipe.adapters is not None and not is_end(recipe.adapters.start)
        return cls(recipe, pattern, 1, 0, (Span(0, 1, pattern, soft, adapters),))

    def at(self, step: int) -> Span:
        """The span of a step; after the last step, the last span."""
        return next(s for s in reversed(self.spans) if step >= s.first_step)

    def beta(self, step: int) -> float:
        """The share of their value that pruned weights keep in the forward product of a step."""
        if step < self.start or self.pattern.is_dense:
            return 1.0
        return self.fading.beta(step) if self.fading else 0.0

    @cached_property
    def fading(self) -> BetaDecay | None:
        """The decay of pruned weights, None where the recipe has none."""
        soft = self.recipe.soft
        return fading(soft, self.start, step_of(soft.end, self.steps)) if isinstance(soft, Decay) else None

    def target(self, step: int, sparsity: float) -> float:
        """The sparsity that PDP aims at in a step: it rises linearly from the start to the end of the ramp."""
        soft = self.recipe.soft
        if not isinstance(soft, Sigmoid):
            return sparsity
        length = step_of(soft.ramp, self.steps) - self.start
        return sparsity * min(1.0, (step - self.start + 1) / length) if length > 0 else sparsity

    def progress(self, step: int) -> float:
        """The share of the soft phase that has passed before a step."""
        soft = self.recipe.soft
        end = step_of(soft.end, self.steps) if soft else self.steps
        return min(1.0, max(0.0, (step - self.start) / max(end - self.start, 1)))


def fading(decay: Decay, start: int, end: int) -> BetaDecay | None:
    """The decay from `start` on that reaches 0 at `end`, or its `floor` there; None where it lasts no step."""
    if end <= start:
        return None
    when: dict[str, Any] = {"start": start, "every": decay.every, "end": end}
    updates = -(-(end - start) // decay.every)
    if decay.shape == "cosine":
        return CosineDecay(updates, **when)
    if decay.shape == "linear":
        return LinearDecay(decay.rate or 1 / updates, **when)
    return ExponentialDecay(decay.rate or -math.log(decay.floor) / updates, snap=0.0, **when)


def frames(structure: Structure, pattern: Pattern) -> list[Pattern]:
    """The patterns that lead to n:m, the last of them n:m itself; raises PatternError for one that none lead to."""
    try:
        return [Pattern.nm(n, m, pattern.axis) for n, m in KINDS[structure.kind](pattern.n, pattern.m)]
    except PatternError as error:
        raise PatternError(f"{structure.kind} structure towards {pattern}: {error}") from None


def _start(recipe: Recipe, steps: int, given: int | None) -> int:
    if given is not None:
        return given
    if recipe.start == "auto":
        raise UnsupportedError(f"recipe {recipe.name!r} starts when a run decides (start: auto); give start=")
    return step_of(recipe.start, steps)


def _frames(recipe: Recipe, pattern: Pattern, start: int, steps: int) -> list[tuple[int, Pattern, bool]]:
    """First step, pattern and softness of each span from the start on."""
    if recipe.soft:
        end = _end(recipe, "soft", start, steps)
        decay = fading(recipe.soft, start, end) if isinstance(recipe.soft, Decay) else None
        if decay is not None and decay.first_sparse_step is not None:
            end = min(end, decay.first_sparse_step)
        if end <= start:
            return [(start, pattern, False)]
        return [(start, pattern, True), (end, pattern, False)] if end < steps else [(start, pattern, True)]
    if recipe.structure:
        end = _end(recipe, "structure", start, steps)
        patterns = [p for p in frames(recipe.structure, pattern) if not p.is_dense]
        firsts = [start + (end - start) * i // len(patterns) for i in range(len(patterns))]
        return [(at, p, False) for at, p in zip(firsts, patterns, strict=True)]
    return [(start, pattern, False)]


def _end(recipe: Recipe, what: str, start: int, steps: int) -> int:
    """The step at which a part of the recipe ends."""
    end = step_of(getattr(recipe, what).end, steps)
    if end < start:
        raise _misfit(recipe, (what, "end"), f"is step {end} of {steps}, before the start at step {start}")
    return min(end, steps)


def updates(growth: Growth, start: int, steps: int) -> range:
    """The numbers of steps of a run after which a growing mask changes."""
    return range(start + growth.every, min(step_of(growth.end, steps), steps + 1), growth.every)


def _check_growth(recipe: Recipe, growth: Growth, start: int, steps: int) -> None:
    end = _end(recipe, "growth", start, steps)
    if not updates(growth, start, steps):
        when = f"every {growth.every} steps from step {start} up to step {end} of {steps}"
        raise _misfit(recipe, ("growth", "every"), f"the mask would never change: {when}")


def _misfit(recipe: Recipe, at: tuple[str, ...], message: str) -> MisfitError:
    return MisfitError(message, at, f"recipe {recipe.name!r}")


def _with_adapters(recipe: Recipe, spans: list[Span], start: int, steps: int) -> list[Span]:
    """The spans, cut where adapters begin."""
    if recipe.adapters is None:
        return spans
    at = min(max(step_of(recipe.adapters.start, steps), start), steps)
    cut: list[Span] = []
    for span in spans:
        end = span.first_step + span.steps
        if span.first_step < at < end:
            cut.append(replace(span, steps=at - span.first_step))
        if at < end or not span.steps:
            first = max(span.first_step, at)
            cut.append(replace(span, first_step=first, steps=end - first, adapters=span.prunes))
        else:
            cut.append(span)
    return cut
