"""The course of a run: what a recipe prunes of which layer at each step, and what a run has decided on the way."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nmsim.sparsity.parts import STAGES, Prune, Stage
from nmsim.sparsity.pattern import Pattern
from nmsim.sparsity.recipe import Recipe
from nmsim.sparsity.timeline import Span, Timeline, updates
from nmsim.workloads.model import Model
from nmsim.workloads.pruning import Plan
from nmsim.workloads.shapes import weight_of

Place = tuple[str, Stage]
"""A layer and the stage whose operand a mask prunes."""

Placed = dict[Place, tuple[Prune, Pattern]]
"""What is pruned where, with the pattern."""

ENDLESS = 1 << 40
"""Steps of a run whose length is not told."""


@dataclass
class Course:
    """A recipe in time: `placed` is what it prunes in each span of the `timeline`.

    `powered` are layers whose weight is a power of what is learned, `budgets` the share of its weights that a layer of
    a growing mask may keep, `adapters` the sizes (in, out, rank) of low-rank ones, `groups` those of convolutions, and
    `left_dense` says why layers are pruned in no step. A run adds what it decides: when a recipe starts that `waits`,
    and which patterns it `found` for layers, each from a step on.
    """

    recipe: Recipe
    pattern: Pattern
    timeline: Timeline
    placed: dict[Span, Placed]
    powered: frozenset[str] = frozenset()
    budgets: Mapping[str, float] = field(default_factory=dict)
    adapters: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)
    groups: Mapping[str, int] = field(default_factory=dict)
    left_dense: Mapping[str, str] = field(default_factory=dict)
    waits: bool = False
    found: list[tuple[int, str, str]] = field(default_factory=list)
    _own: dict[str, Pattern] = field(default_factory=dict)

    @classmethod
    def everywhere(cls, recipe: Recipe, pattern: Pattern, pruned: Mapping[str, Collection[str]], **more: Any) -> Course:
        """The recipe in every stage named of every layer named; `more` has `steps` and `groups`."""
        waits, steps = recipe.start == "auto", more.pop("steps", ENDLESS)
        timeline = Timeline.of(recipe, pattern, steps, steps if waits else None)
        placed = {
            span: {(x, p.stage): (p, span.pattern) for x, stages in pruned.items()
                   for p in (recipe.prunes if span.prunes else ()) if p.stage in stages}
            for span in timeline.spans
        }  # fmt: skip
        powered = frozenset(pruned) if recipe.power != 1.0 else frozenset()
        return cls(recipe, pattern, timeline, placed, powered, waits=waits, **more)

    @classmethod
    def planned(
        cls, model: Model, recipe: Recipe, pattern: Pattern, keep_dense: Sequence[str], steps: int
    ) -> Course:  # fmt: skip
        """The recipe on the layers that the planner would prune; errors are those of `expand`."""
        waits = recipe.start == "auto"
        plans = Plan.make(model, recipe, pattern, keep_dense, steps, steps if waits else None)
        low = {x.name: plan.adapters(x) for plan in plans for x in model.layers if plan.adapters(x)}
        return cls(
            recipe, pattern, plans[0].timeline, {plan.span: _planned(model, plan) for plan in plans},
            frozenset(x.name for x in model.layers if plans[0].reparametrizes(x)), dict(plans[0].shares),
            {name: (down.in_features, up.out_features, up.in_features) for name, (down, up) in low.items()},
            {layer.name: weight.groups for layer in model.layers if (weight := weight_of(layer))},
            _left_dense(model, plans), waits,
        )  # fmt: skip

    @property
    def places(self) -> set[Place]:
        """Everything that is pruned at some step."""
        return {place for placed in self.placed.values() for place in placed}

    @property
    def first_sparse_step(self) -> int | None:
        """The first step with a sparse product; None if there is none in the run."""
        spans = (s for s in self.timeline.spans if s.is_sparse and s.steps and self.placed[s])
        return next((s.first_step for s in spans), None)

    def at(self, step: int, layer: str, stage: Stage, operand: str) -> tuple[Prune, Pattern] | None:
        """What is pruned there at a step, with its pattern; None where the operand is dense."""
        found = self.placed[self.timeline.at(step)].get((layer, stage))
        if found is None or found[0].operand != operand:
            return None
        return found[0], self._own.get(layer, found[1])

    def forward(self) -> list[tuple[str, Prune, Pattern]]:
        """Layers whose weight FF prunes in the last span of the run, with the pattern that they have by now."""
        last = self.placed[self.timeline.spans[-1]]
        places = [(layer, found) for (layer, stage), found in last.items() if stage == "FF"]
        return [(x, prune, self._own.get(x, pattern)) for x, (prune, pattern) in places if prune.operand == "weight"]

    def grows_after(self, step: int) -> bool:
        """Whether a growing mask changes after this step."""
        rule = self.recipe.growth
        return rule is not None and step + 1 in updates(rule, self.timeline.start, self.timeline.steps)

    def start_at(self, step: int) -> None:
        """Begin at this step: what a run decides that waits for Adam's variance."""
        layers, self.waits = self.placed[self.timeline.spans[-1]], False
        self.timeline = Timeline.of(self.recipe, self.pattern, self.timeline.steps, step)
        self.placed = {span: layers if span.prunes else {} for span in self.timeline.spans}

    def find(self, step: int, layer: str, pattern: Pattern) -> None:
        """Note that from this step on the layer has another pattern."""
        self._own[layer] = pattern
        self.found.append((step, layer, str(pattern)))

    def restore(self, start: int, found: Sequence[tuple[int, str, str]]) -> None:
        """Take up what a run has decided."""
        if self.waits and start != self.timeline.start:
            self.start_at(start)
        self.found, self._own = [], {}
        for step, layer, text in found:
            self.find(step, layer, Pattern.parse(text))


def _left_dense(model: Model, plans: Sequence[Plan]) -> dict[str, str]:
    """The layers that are dense in every span that prunes, each with the reason in the last of them."""
    found = [plan.left_dense(model) for plan in plans if plan.span.prunes]
    return {x: why for x, why in found[-1].items() if all(x in other for other in found)} if found else {}


def _planned(model: Model, plan: Plan) -> Placed:
    """What the plan prunes in its span."""
    prunes = [p for stage in STAGES for p in plan.prunes(stage)]
    return {
        (x.name, p.stage): (p, plan.pattern_of(x.name))
        for x in model.layers for p in prunes if not plan.dense_because(x, p)
    }  # fmt: skip
