"""Where a recipe's pattern applies in a model, why it does not elsewhere, and what finding the masks costs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from nmsim.errors import PatternError, UnsupportedError
from nmsim.sparsity.pattern import Pattern
from nmsim.sparsity.recipe import Prune, Recipe
from nmsim.workloads.lower_products import Row
from nmsim.workloads.model import Model, matching, no_layer
from nmsim.workloads.shapes import FlatLayer, Weight, plural, weight_of

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


@dataclass(frozen=True)
class Plan:
    """A recipe with its pattern on a model; `keep` maps layer globs to the reason they stay dense."""

    recipe: Recipe
    pattern: Pattern
    keep: dict[str, str]

    @classmethod
    def make(cls, model: Model, recipe: Recipe, pattern: Pattern, keep_dense: list[str]) -> Plan:
        """The plan; raises PatternError if recipe and pattern do not go together, UnsupportedError for odd names."""
        if recipe.prunes and recipe.trains and pattern.is_dense:
            raise PatternError(f"recipe {recipe.name!r} needs a pattern, as 2:4")
        if not recipe.prunes and not pattern.is_dense:
            raise PatternError(f"recipe {recipe.name!r} takes no pattern, but {pattern} was given")
        for prune in recipe.prunes:
            if (prune.stage, prune.operand, prune.direction) not in _PLACES:
                what = f"{prune.operand} along {prune.direction!r} in {prune.stage}"
                raise UnsupportedError(f"recipe {recipe.name!r} prunes the {what}, which is no operand of that product")
        for glob in keep_dense:
            if not any(matching([glob], layer.name) for layer in model.layers):
                raise UnsupportedError(f"keep_dense: {no_layer(glob, (layer.name for layer in model.layers))}")
        by_file = model.file.keep_dense
        return cls(recipe, pattern.along(-1), by_file | {g: BY_USER for g in keep_dense if g not in by_file})

    def prunes(self, stage: str) -> list[Prune]:
        """The pruned operands of a stage; none with a dense pattern."""
        return [p for p in self.recipe.prunes if p.stage == stage and not self.pattern.is_dense]

    def dense_because(self, layer: FlatLayer, prune: Prune) -> str:
        """Why the plan leaves this operand of the layer dense; empty where it is pruned."""
        if (weight := weight_of(layer)) is None:
            return "no weight"
        if glob := matching(self.keep, layer.name):
            return self.keep[glob]
        return _misfit(self.pattern, weight, prune)

    def pruned(self, layer: FlatLayer, stage: str, operand: str) -> bool:
        """Whether the recipe prunes that operand of the layer in that stage."""
        return any(p.operand == operand and not self.dense_because(layer, p) for p in self.prunes(stage))

    def apply(self, layer: FlatLayer, row: Row) -> Row:
        """The product with its patterns, or with the note that says why it is dense."""
        if row["kind"] != "gemm":
            return row
        for prune in self.prunes(row["stage"]):
            why = self.dense_because(layer, prune)
            row = row | ({"note": why} if why else self._pattern(prune))
        if row["stage"] == "BP" and self.recipe.forward_mask_in_backward:
            for prune in self.prunes("FF"):
                if prune.operand == "weight" and not self.dense_because(layer, prune):
                    row = row | self._pattern(Prune("BP", "weight", prune.direction))
        return row

    def _pattern(self, prune: Prune) -> Row:
        letter, axis = _PLACES[prune.stage, prune.operand, prune.direction]
        return {f"{letter}_pattern": self.pattern, f"{letter}_axis": axis}

    def online_masks(self, layer: FlatLayer, row: Row) -> Iterator[Row]:
        """The mask searches on activations or gradients that come right before a product."""
        weight = weight_of(layer)
        for prune in self.prunes(row["stage"]):
            if prune.operand == "weight" or prune.refresh == 0 or weight is None or self.dense_because(layer, prune):
                continue
            letter, _ = _PLACES[prune.stage, prune.operand, prune.direction]
            length = weight.channels(prune.direction)
            yield self._mask(layer, prune, row[f"{letter}_elements"] // length, length)

    def weight_masks(self, layer: FlatLayer) -> Iterator[Row]:
        """The mask searches on the layer's weight, one for each direction that the recipe prunes.

        A mask that is found once costs a search only where training goes before it.
        """
        weight = weight_of(layer)
        for prune in (p for stage in ("FF", "BP", "WU") for p in self.prunes(stage)):
            if prune.operand != "weight" or weight is None or self.dense_because(layer, prune):
                continue
            if prune.refresh == 0 and self.recipe.start == 0:
                continue
            yield self._mask(layer, prune, *weight.matrix(prune.direction))

    def _mask(self, layer: FlatLayer, prune: Prune, m: int, n: int) -> Row:
        """`repeat` is still the period of the search in steps, 0 for a single one."""
        row = mask_search(prune, self.pattern, m, n)
        return {"layer": layer.name, "stage": "PRUNE", "kind": "prune", "repeat": prune.refresh} | row


def mask_search(prune: Prune, pattern: Pattern, m: int, n: int) -> Row:
    """What a search of the mask of m rows of n elements adds to its op: the elements read, the kept ones written."""
    return {
        "m": m, "n": n, "a_pattern": pattern, "a_axis": "n", "note": f"mask for {prune.stage}",
        "a_elements": m * n, "a_role": prune.operand,
        "c_elements": kept_elements(pattern, m, n), "c_role": prune.operand,
    }  # fmt: skip


def kept_elements(pattern: Pattern, m: int, n: int) -> int:
    """Elements kept of m rows of n, the groups within rows."""
    return round(pattern.density * m * n) if pattern.kind == "unstructured" else m * pattern.kept(n)


def _misfit(pattern: Pattern, weight: Weight, prune: Prune) -> str:
    """Why the pattern does not fit the operand: groups lie at one kernel position of one group of channels."""
    channels = weight.channels(prune.direction)
    length = weight.matrix(prune.direction)[1] if prune.operand == "weight" else channels
    what = "input" if prune.direction == "in" else "output"
    if pattern.has_groups and channels % pattern.m:
        per_group = " per group" if weight.groups > 1 else ""
        return f"{pattern.m} does not divide {plural(channels, f'{what} channel')}{per_group}"
    if pattern.kind == "fan_in" and pattern.n > length:
        return f"a row has {length} elements, fewer than the {pattern.n} kept"
    return ""
