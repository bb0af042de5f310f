"""Where a recipe's pattern applies in a model, why it does not elsewhere, and what finding the masks costs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from nmsim.errors import PatternError, UnsupportedError
from nmsim.sparsity.consistency import accepts
from nmsim.sparsity.distribution import erk, uniform, weight_budget
from nmsim.sparsity.parts import STAGES, Prune
from nmsim.sparsity.pattern import DENSE, Pattern
from nmsim.sparsity.recipe import Recipe
from nmsim.sparsity.timeline import Span, Timeline
from nmsim.workloads import recipe_ops
from nmsim.workloads.lower_products import Row
from nmsim.workloads.model import Model, matching, no_layer
from nmsim.workloads.modelfile import Conv, Linear
from nmsim.workloads.recipe_ops import mask_search
from nmsim.workloads.search_ops import CALIBRATION_SAMPLES, search_ops
from nmsim.workloads.shapes import FlatLayer, Weight, parameters, plural, weight_of

BY_USER = "kept dense by the user"

# Which operand of a product is pruned, and along which of its axes the groups then run.
_PLACES = {
    ("FF", "weight", "in"): ("b", "k"),
    ("FF", "weight", "out"): ("b", "n"),
    ("FF", "activation", "in"): ("a", "k"),
    ("BP", "weight", "in"): ("b", "n"),
    ("BP", "weight", "out"): ("b", "k"),
    ("BP", "gradient", "out"): ("a", "k"),
    ("WU", "activation", "in"): ("a", "m"),
    ("WU", "gradient", "out"): ("b", "n"),
}

Found = Sequence[tuple[int, str, str]]
"""Patterns that a run decided on: from which step, for which layer, which."""


@dataclass(frozen=True)
class Plan:
    """A recipe with its pattern on a model in one span of a run.

    `keep` maps layer globs to the reason they stay dense. `shares` are the densities of layers among which that of
    a pattern without groups is distributed, `own` their patterns: a share of the weights, or the fan-in it gives.
    `calibration` are the samples by whose inputs one-shot masks are found.
    """

    recipe: Recipe
    timeline: Timeline
    span: Span
    keep: Mapping[str, str]
    shares: Mapping[str, float] = field(default_factory=dict)
    own: Mapping[str, Pattern] = field(default_factory=dict)
    calibration: int = CALIBRATION_SAMPLES

    @classmethod
    def make(
        cls, model: Model, recipe: Recipe, pattern: Pattern, keep_dense: Sequence[str], steps: int | None = None,
        start: int | None = None, found: Found = (), calibration: int = CALIBRATION_SAMPLES,
    ) -> list[Plan]:  # fmt: skip
        """The plan of each span of a run of `steps`, or of one step as the run ends with it (None).

        Spans are cut where the run `found` other patterns, and begin at `start` where the run decided it. Raises
        PatternError if recipe and pattern do not go together, UnsupportedError for odd names and moments.
        """
        if why := accepts(recipe, pattern):
            raise PatternError(why)
        for glob in keep_dense:
            if not any(matching([glob], layer.name) for layer in model.layers):
                raise UnsupportedError(f"keep_dense: {no_layer(glob, (layer.name for layer in model.layers))}")
        pattern = pattern.along(-1)
        line = Timeline.final(recipe, pattern) if steps is None else Timeline.of(recipe, pattern, steps, start)
        by_file = model.file.keep_dense
        keep = by_file | {g: BY_USER for g in keep_dense if g not in by_file}
        plan = cls(recipe, line, line.spans[0], keep, calibration=calibration)
        plan = replace(plan, shares=plan._distributed(model))
        own = {
            x.name: _own(recipe, w, plan.shares[x.name])
            for x in model.layers
            if (w := weight_of(x)) and x.name in plan.shares
        }
        return [replace(plan, span=span, own=_overlaid(own, found, span)) for span in _cut(line.spans, found)]

    def pattern_of(self, layer: str) -> Pattern:
        """The pattern of the layer's masks in this span."""
        return self.own.get(layer, self.span.pattern) if self.span.prunes else DENSE

    def prunes(self, stage: str) -> list[Prune]:
        """The operands of a stage that have masks in this span."""
        return [p for p in self.recipe.prunes if p.stage == stage and self.span.prunes]

    def dense_because(self, layer: FlatLayer, prune: Prune) -> str:
        """Why the plan leaves this operand of the layer dense; empty where it is pruned."""
        return self._dense_because(layer, prune, self.pattern_of(layer.name))

    def _dense_because(self, layer: FlatLayer, prune: Prune, pattern: Pattern) -> str:
        weight = weight_of(layer)
        if weight is None or (glob := matching(self.keep, layer.name)):
            return "no weight" if weight is None else self.keep[str(glob)]
        return "the distribution leaves it dense" if pattern.is_dense else _misfit(pattern, weight, prune)

    def reparametrizes(self, layer: FlatLayer) -> bool:
        """Whether the weight of the layer is a power of what is learned, which holds from the first step on."""
        prune, pattern = self.recipe.prune("FF"), self.own.get(layer.name, self.timeline.pattern)
        return self.recipe.power != 1.0 and prune is not None and not self._dense_because(layer, prune, pattern)

    def masked(self, layer: FlatLayer, stage: str = "FF") -> Prune | None:
        """What the recipe prunes of the layer's weight in a stage in this span, None if nothing."""
        found = (p for p in self.prunes(stage) if p.operand == "weight" and not self.dense_because(layer, p))
        return next(found, None)

    def apply(self, layer: FlatLayer, row: Row) -> Row:
        """The product with its patterns, or with the note that says why it is dense."""
        if row["kind"] != "gemm":
            return row
        soft = self.span.soft
        for prune in self.prunes(row["stage"]):
            why = self.dense_because(layer, prune)
            if soft and prune.stage == "FF" and prune.operand == "weight" and not why:
                why = "pruned weights still have a part"
            row = row | ({"note": why} if why else self._pattern(layer, prune))
        if row["stage"] != "WU" and self.recipe.quantize and self.masked(layer):
            row = row | {"b_dtype": recipe_ops.weight_dtype(self.recipe)}
        if row["stage"] == "BP" and self.recipe.forward_mask_in_backward and not soft:
            prune_ff = self.masked(layer)
            if prune_ff is not None and not self.masked(layer, "BP"):
                row = row | self._pattern(layer, prune_ff.model_copy(update={"stage": "BP"}))
        return row

    def left_dense(self, model: Model) -> dict[str, str]:
        """The layers with a weight that the recipe leaves dense in this span, each with the reason."""
        prunes = [p for stage in STAGES for p in self.prunes(stage)]
        layers = [x for x in model.layers if weight_of(x) is not None]
        found = {x.name: [why for p in prunes if (why := self.dense_because(x, p))] for x in layers}
        return {name: reasons[0] for name, reasons in found.items() if reasons and len(reasons) == len(prunes)}

    def before_product(self, layer: FlatLayer, row: Row) -> Iterator[Row]:
        """Ops right before a product: the search on its activation or gradient, rescaling, the making of its weight."""
        weight = weight_of(layer)
        if row["kind"] != "gemm" or weight is None:
            return
        for prune in self.prunes(row["stage"]):
            if prune.operand == "weight" or prune.refresh == 0 or self.dense_because(layer, prune):
                continue
            letter, _ = _PLACES[prune.stage, prune.operand, prune.direction]
            length = weight.channels(prune.direction)
            pattern = self.pattern_of(layer.name)
            yield self._mask(layer, prune, row[f"{letter}_elements"] // length, length, pattern) | {
                "online": True,
                "repeat": 1,
            }
            if isinstance(layer, Conv) and prune.operand == "gradient":
                yield from self._named(layer, recipe_ops.rescaling(self.recipe, row[f"{letter}_elements"]))
        if row["stage"] == "FF":
            rows = recipe_ops.shaping(self.recipe, self.span, weight.elements) if self.masked(layer) else iter(())
            power = [recipe_ops.power(weight.elements)] if self.reparametrizes(layer) else []
            yield from self._named(layer, [*power, *rows])

    def after_product(self, layer: FlatLayer, row: Row) -> Iterator[Row]:
        """Ops right after a product: the gradient of what a mask is learned by."""
        weight = weight_of(layer)
        if row["kind"] == "gemm" and row["stage"] == "WU" and weight is not None and self.masked(layer):
            yield from self._named(layer, recipe_ops.shaping_gradient(self.recipe, self.span, weight.elements))

    def weight_masks(self, layer: FlatLayer, positions: int = 1) -> Iterator[Row]:
        """The mask searches on the layer's weight, `repeat` being their number in this span.

        `positions` are the rows of its forward product for one sample.
        """
        weight = weight_of(layer)
        for stage in STAGES:
            for prune in self.prunes(stage):
                if prune.operand != "weight" or weight is None or self.dense_because(layer, prune):
                    continue
                pattern, size = self.pattern_of(layer.name), weight.matrix(prune.direction)
                tokens = positions * self.calibration
                for row in recipe_ops.search_rows(prune, self.recipe, self.timeline, self.span, pattern, size, tokens):
                    yield {"layer": layer.name, "stage": "PRUNE", "kind": "prune"} | row

    def learned(self, layer: FlatLayer) -> tuple[int, float]:
        """Learned values of the layer that this span updates, and what the recipe adds to their update in all."""
        weight, count = weight_of(layer), parameters(layer)
        if weight is None:
            return 0 if recipe_ops.freezes(self.recipe, self.span) else count, 0.0
        masked = self.masked(layer) is not None
        extra = recipe_ops.extra_parameters(self.recipe, self.span, weight.elements) if masked else 0
        extra += sum(parameters(adapter) for adapter in self.adapters(layer))
        if recipe_ops.freezes(self.recipe, self.span):
            return extra, 0.0
        ops = recipe_ops.gradient_ops(self.recipe, self.span) if masked else 0
        ops += recipe_ops.POWER_GRADIENT_OPS if self.reparametrizes(layer) else 0
        return count + extra, float(ops * weight.elements)

    def adapters(self, layer: FlatLayer) -> list[Linear]:
        """The two layers of the low-rank adapter, none where the layer has no such."""
        low = self.recipe.adapters
        if low is None or not self.span.adapters or not isinstance(layer, Linear) or layer.experts > 1:
            return []
        if not self.masked(layer):
            return []
        common: dict[str, Any] = {"type": "linear", "bias": False, "tokens": layer.tokens}
        down = Linear(name=f"{layer.name}.adapter.down", in_features=layer.in_features, out_features=low.rank, **common)
        up = Linear(name=f"{layer.name}.adapter.up", in_features=low.rank, out_features=layer.out_features, **common)
        return [down, up]

    def _pattern(self, layer: FlatLayer, prune: Prune) -> Row:
        letter, axis = _PLACES[prune.stage, prune.operand, prune.direction]
        return {f"{letter}_pattern": self.pattern_of(layer.name), f"{letter}_axis": axis}

    def _mask(self, layer: FlatLayer, prune: Prune, m: int, n: int, pattern: Pattern) -> Row:
        ops = search_ops(prune, self.recipe, pattern, m, n)
        return {"layer": layer.name, "stage": "PRUNE", "kind": "prune"} | mask_search(prune, pattern, m, n, ops)

    def _named(self, layer: FlatLayer, rows: Iterable[Row]) -> Iterator[Row]:
        for row in rows:
            yield {"layer": layer.name} | row

    def _distributed(self, model: Model) -> dict[str, float]:
        """The density of each layer where that of a pattern without groups is distributed among them."""
        pattern = self.timeline.pattern
        if pattern.kind != "unstructured":
            return {}
        weights = {x.name: w for x in model.layers if (w := weight_of(x)) and not matching(self.keep, x.name)}
        shapes = [(w.outputs * w.groups * w.experts, w.inputs, *w.kernel) for w in weights.values()]
        shares = {"erk": erk, "uniform": uniform}[self.recipe.distribution](shapes, pattern.density)
        return dict(zip(weights, (float(d) for d in shares), strict=True))


def _cut(spans: Sequence[Span], found: Found) -> Iterator[Span]:
    """The spans, cut at the steps at which the run found other patterns."""
    cuts = sorted({step for step, _, _ in found})
    for span in spans:
        end = span.first_step + span.steps
        edges = [span.first_step, *(c for c in cuts if span.first_step < c < end), end]
        for first, last in pairwise(edges):
            yield replace(span, first_step=first, steps=last - first)


def _overlaid(own: Mapping[str, Pattern], found: Found, span: Span) -> dict[str, Pattern]:
    """The patterns of layers in a span: the last found for each."""
    return {**own, **{layer: Pattern.parse(text) for step, layer, text in found if step <= span.first_step}}


def _own(recipe: Recipe, weight: Weight, density: float) -> Pattern:
    """The pattern of one layer with a share `density` kept; a constant fan-in is the budget over the neurons."""
    if density >= 1.0:
        return DENSE
    if recipe.growth is None or not recipe.growth.constant_fan_in:
        return Pattern.unstructured(density)
    neurons = weight.outputs * weight.groups * weight.experts
    return Pattern.fan_in(max(1, weight_budget(weight.elements, density) // neurons))


def _misfit(pattern: Pattern, weight: Weight, prune: Prune) -> str:
    """Why the pattern does not fit the operand: groups lie at one kernel position of one group of channels."""
    directions = ("in", "out") if prune.mask == "transposable" else (prune.direction,)
    for direction in directions:
        channels = weight.channels(direction)
        if pattern.has_groups and channels % pattern.m:
            what, per_group = "input" if direction == "in" else "output", " per group" if weight.groups > 1 else ""
            return f"{pattern.m} does not divide {plural(channels, f'{what} channel')}{per_group}"
    channels = weight.channels(prune.direction)
    length = weight.matrix(prune.direction)[1] if prune.operand == "weight" else channels
    if pattern.kind == "fan_in" and prune.operand != "weight" and weight.taps > 1:
        return f"a row of the product has {weight.taps} kernel positions, a fan-in of the {prune.operand} counts one"
    if pattern.kind == "fan_in" and pattern.n > length:
        return f"a row has {length} elements, fewer than the {pattern.n} kept"
    return ""
