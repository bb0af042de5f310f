"""What parts of a recipe do not go together, each with the field that says it; what no part reads is refused too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from nmsim.sparsity.parts import Choice, Decay, Prune, Sigmoid
from nmsim.specfile import Path

if TYPE_CHECKING:
    from nmsim.sparsity.pattern import Pattern
    from nmsim.sparsity.recipe import Recipe

OPERANDS = {"FF": ("weight", "activation"), "BP": ("weight", "gradient"), "WU": ("activation", "gradient")}
"""The operands that each product has."""

ONE_DIRECTION = {"activation": "in", "gradient": "out"}
"""The channels of operands that have input or output channels only."""

Found = Iterator[tuple[Path, str]]


def contradictions(recipe: Recipe) -> Found:
    """The fields that do not go with the others, the gravest first, each with what is wrong."""
    yield from _of_prunes(recipe)
    yield from _unread(recipe)
    yield from _of_masks(recipe)
    yield from _of_soft(recipe)
    yield from _disorder(recipe)


def _of_prunes(recipe: Recipe) -> Found:
    """Operands that a product does not have, or has pruned already."""
    stages: set[str] = set()
    for i, prune in enumerate(recipe.prunes):
        if prune.operand not in OPERANDS[prune.stage]:
            have = " and ".join(OPERANDS[prune.stage])
            yield ("prunes", i, "operand"), f"{prune.stage} has no {prune.operand}, it multiplies {have}"
        elif (only := ONE_DIRECTION.get(prune.operand)) and prune.direction != only:
            yield ("prunes", i, "direction"), f"the channels of the {prune.operand} are {only!r}"
        if prune.stage in stages:
            yield ("prunes", i), "two operands of one product are pruned"
        stages.add(prune.stage)
        if prune.mask != "permuted" and prune.renew != Prune.model_fields["renew"].default:
            yield ("prunes", i, "renew"), "is of permuted masks alone"
        if prune.within and not (prune.stage == "BP" and prune.operand == "weight" and _weight(recipe)):
            yield ("prunes", i, "within"), "BP's weight may lie within the pruned weight of FF, nothing else may"


def _weight(recipe: Recipe) -> Prune | None:
    """What FF prunes of the weight."""
    forward = recipe.prune("FF")
    return forward if forward is not None and forward.operand == "weight" else None


def _unread(recipe: Recipe) -> Found:
    """Fields that say something which no part of the recipe reads."""
    said = [name for name, f in type(recipe).model_fields.items() if getattr(recipe, name) != f.default]
    if not recipe.prunes:
        empty = "goes with a pruned operand, and `prunes` is empty"
        yield from (((name,), empty) for name in said if name in _OF_MASKS)
    if not recipe.trains:
        idle = "is of training, and this recipe does not train"
        yield from (((name,), idle) for name in said if name in _OF_TRAINING)
    if not _weight(recipe):
        other = "is of the weight in FF, which `prunes` does not have"
        yield from (((name,), other) for name in said if name in _OF_FORWARD)
    if recipe.rescale and not any(prune.operand == "gradient" for prune in recipe.prunes):
        yield ("rescale",), "is of a pruned gradient, and `prunes` has none"


_OF_FORWARD = {"gradient", "soft", "growth", "adapters", "power", "forward_mask_in_backward"}
_OF_TRAINING = {*_OF_FORWARD, "decay", "rescale", "start", "structure", "freeze_variance"}
_OF_MASKS = {*_OF_TRAINING, "distribution", "permute", "quantize", "series"}


def _of_masks(recipe: Recipe) -> Found:
    """Rules that need a hard mask of the weight of FF, or one with another rule."""
    plain = _weight(recipe) is not None and not recipe.soft
    if recipe.decay and not (plain and recipe.gradient == "ste"):
        what = "pulls at weights that a hard mask of FF drops, with the straight-through gradient (ste) alone"
        yield ("decay",), what
    if recipe.quantize and not (plain and recipe.forward_mask_in_backward and recipe.prune("BP") is None):
        what = "rounds the weight of FF under a hard mask, which BP has to use too (forward_mask_in_backward)"
        yield ("quantize",), what
    if recipe.series and recipe.trains:
        yield ("series",), "a series of structured terms is one of an inference (trains: false)"
    if recipe.start == "auto" and not recipe.freeze_variance:
        yield ("start",), "auto waits for Adam's variance to settle and goes with freeze_variance"


def _of_soft(recipe: Recipe) -> Found:
    """Soft masks and what they do not go with, or do not read."""
    soft = recipe.soft
    if soft is None:
        return
    if recipe.growth or recipe.structure:
        yield ("soft",), "a soft mask goes with neither growth nor structure"
    if isinstance(soft, Choice) and recipe.gradient == "masked":
        yield ("gradient",), "a learned choice cannot zero the weights it has not chosen (gradient: masked)"
    if isinstance(soft, Decay) and soft.rate is not None and soft.shape == "cosine":
        yield ("soft", "rate"), "a cosine falls from the start to the end, whatever the rate"


def _disorder(recipe: Recipe) -> Found:
    """Moments that end before the recipe starts, where both are steps or both shares."""
    start = 0 if recipe.start == "auto" else recipe.start
    ends = {"soft": recipe.soft, "structure": recipe.structure, "growth": recipe.growth}
    for name, part in ends.items():
        if part is not None and type(part.end) is type(start) and part.end < start:
            yield (name, "end"), f"{_moment(part.end)} lies before the start at {_moment(start)}"


def _moment(moment: int | float) -> str:
    return f"{100 * moment:g} %" if isinstance(moment, float) else f"step {moment}"


def accepts(recipe: Recipe, pattern: Pattern) -> str:
    """Why the recipe cannot have this pattern; empty if it can."""
    if recipe.prunes and recipe.trains and pattern.is_dense:
        return f"recipe {recipe.name!r} needs a pattern, as 2:4"
    if not recipe.prunes and not pattern.is_dense:
        return f"recipe {recipe.name!r} takes no pattern, but {pattern} was given"
    if recipe.growth and not pattern.is_dense and pattern.kind != "unstructured":
        return f"recipe {recipe.name!r} takes a density, as unstructured:0.1, not {pattern}"
    if not pattern.is_dense and (takes := _takes(recipe, pattern)):
        return f"recipe {recipe.name!r} takes {takes}, not {pattern}"
    return ""


def _takes(recipe: Recipe, pattern: Pattern) -> str:
    """What the recipe takes instead of a pattern that is not dense; empty if it takes that."""
    masks = {prune.mask for prune in recipe.prunes}
    grouped = isinstance(recipe.soft, Choice) or recipe.structure or recipe.permute
    if (grouped or masks & {"transposable", "permuted"}) and pattern.kind != "nm":
        return "n:m, as 2:4"
    if "sparsegpt" in masks and pattern.kind not in ("nm", "unstructured"):
        return "n:m or a density, as unstructured:0.1"
    if isinstance(recipe.soft, Sigmoid) and pattern.kind == "fan_in":
        return "n:m or a density, as unstructured:0.1"
    return ""
