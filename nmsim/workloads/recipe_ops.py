"""What a recipe adds to a step: mask searches, the making of soft weights, extra parameters, gradient rules."""

from __future__ import annotations

from collections.abc import Iterator
from math import comb

import numpy as np

from nmsim.errors import UnsupportedError
from nmsim.sparsity.parts import Choice, Decay, Prune, Sigmoid
from nmsim.sparsity.pattern import Pattern
from nmsim.sparsity.recipe import Recipe
from nmsim.sparsity.timeline import Span, Timeline, updates
from nmsim.workloads.lower_products import Row
from nmsim.workloads.search_ops import growth_ops, order_row, search_ops, statistics_rows

SOFT_MASKS = ("soft_mask", "sigmoid_mask", "choice_mask")
"""Kinds of ops that make a forward weight in which pruned weights still have a part."""

DECAY_OPS = 3  # g += λ·w where the forward mask dropped w: select, multiply, add
MASKED_OPS = 1  # g times the mask: select
SOFT_OPS = 1  # w times 1 or beta
SIGMOID_OPS = 7  # w·w, - t², / tau, exp, + 1, reciprocal, times w
SIGMOID_GRADIENT_OPS = 6  # m + (2 / tau)·w²·m·(1 - m): subtract, three multiplies, add; times g
POWER_OPS = 3  # |theta|, its power, times theta
POWER_GRADIENT_OPS = 3  # alpha·|theta|^(alpha - 1), times g
QUANTIZE_OPS = 3  # / scale, round, times scale
RESCALE_OPS = 5  # |dy| added up before and after the mask, times the quotient, which there is one of for each channel


def mask_search(prune: Prune, pattern: Pattern, m: int, n: int, ops: float = 0.0) -> Row:
    """What a search of the mask of m rows of n elements adds to its op: the elements read, the kept ones written.

    `ops` is the arithmetic per element of a search that is no plain top-n.
    """
    return {
        "ops_per_element": ops,
        "m": m, "n": n, "a_pattern": pattern, "a_axis": "n", "note": f"mask for {prune.stage}",
        "a_elements": m * n, "a_role": prune.operand,
        "c_elements": kept_elements(pattern, m, n), "c_role": prune.operand,
    }  # fmt: skip


def kept_elements(pattern: Pattern, m: int, n: int) -> int:
    """Elements kept of m rows of n, the groups within rows."""
    return round(pattern.density * m * n) if pattern.kind == "unstructured" else m * pattern.kept(n)


def searches(prune: Prune, recipe: Recipe, timeline: Timeline, span: Span) -> int:
    """How often the mask of a weight is searched in the steps of a span.

    A mask is searched where the pattern changes, and at every multiple of `refresh` steps after the start; one that
    is never renewed costs nothing where it is found before training. A choice is learned, not searched; a growing
    mask changes after every `every`-th step, and is searched where it starts late. A transposable mask of BP is that
    of FF. A recipe that starts after the last step finds those of FF there.
    """
    if not span.steps:
        return int(prune.stage == "FF" and timeline.start == timeline.steps)
    if prune.stage == "BP" and prune.mask == "transposable":
        return 0
    first, last = span.first_step, span.first_step + span.steps
    if recipe.growth:
        late = int(first == timeline.start > 0)
        return late + sum(1 for at in updates(recipe.growth, timeline.start, timeline.steps) if first < at <= last)
    if isinstance(recipe.soft, Choice) and span.soft:
        return 0
    changes = _begins(timeline, first)
    if prune.refresh == 0:
        return int(changes and first > 0)
    phase = (first - timeline.start) % prune.refresh
    multiples = -(-(span.steps - (prune.refresh - phase) % prune.refresh) // prune.refresh)
    return max(multiples, 0) + int(changes and phase != 0)


def orders(prune: Prune, timeline: Timeline, span: Span) -> int:
    """How often the order of channels of a permuted mask is searched in the steps of a span.

    It is renewed with the first mask, that of another pattern, and the first of each further period of `renew` steps.
    """
    first, start = span.first_step, timeline.start
    steps = np.arange(start, first + span.steps, prune.refresh or span.steps + first - start)
    if begins := _begins(timeline, first):
        steps = np.union1d(steps, [first])
    new = np.diff((steps - start) // prune.renew, prepend=-1) != 0
    new |= begins & (steps == first)
    if prune.refresh == 0:
        new &= steps > 0
    return int(np.count_nonzero(new & (steps >= first)))


def search_rows(
    prune: Prune, recipe: Recipe, timeline: Timeline, span: Span, pattern: Pattern, size: tuple[int, int], tokens: int
) -> Iterator[Row]:
    """The searches on a weight of `size` [rows, row length] in a span, `repeat` being their number, and what they need.

    `tokens` are the inputs of the layer in the calibration of masks that depend on them.
    """
    m, n = size
    late = span.first_step == timeline.start > 0
    if recipe.growth:
        if late:
            yield mask_search(prune, pattern, m, n) | {"repeat": 1}
        ops = growth_ops(recipe.growth.constant_fan_in, m)
        if count := searches(prune, recipe, timeline, span) - late:
            yield mask_search(prune, pattern, m, n, ops) | {"repeat": count}
        return
    if count := searches(prune, recipe, timeline, span):
        yield mask_search(prune, pattern, m, n, search_ops(prune, recipe, pattern, m, n)) | {"repeat": count}
    if prune.mask == "permuted" and span.steps and (count := orders(prune, timeline, span)):
        yield order_row(prune, m, n, pattern) | {"repeat": count}
    if span.first_step == timeline.start and (span.steps or prune.stage == "FF"):
        yield from (row | {"repeat": 1} for row in calibration_rows(prune, recipe, timeline.start, tokens, n))


def calibration_rows(prune: Prune, recipe: Recipe, start: int, tokens: int, inputs: int) -> list[Row]:
    """What is made of the inputs of a layer for its mask, or for the prior of a choice; nothing before training."""
    prior = recipe.soft.prior if isinstance(recipe.soft, Choice) else ""
    method = next((x for x in (prune.mask, prior) if x in ("wanda", "sparsegpt")), "")
    if not method or prune.stage != "FF" or (start == 0 and prune.refresh == 0):
        return []
    return statistics_rows(method, tokens, inputs)


def _begins(timeline: Timeline, step: int) -> bool:
    """Whether the masks of a step are the first, or have another pattern than those before."""
    if step == 0:
        return True
    before, now = timeline.at(step - 1), timeline.at(step)
    learned = isinstance(timeline.recipe.soft, Choice) and before.soft != now.soft
    return before.pattern != now.pattern or learned


def shaping(recipe: Recipe, span: Span, elements: int) -> Iterator[Row]:
    """The ops that make the forward weight of a layer with masks, beyond dropping what a hard mask prunes."""
    soft = recipe.soft if span.soft else None
    if isinstance(soft, Decay):
        yield _weight_op("soft_mask", elements, SOFT_OPS)
    elif isinstance(soft, Sigmoid):
        yield _weight_op("sigmoid_mask", elements, SIGMOID_OPS)
    elif isinstance(soft, Choice):
        logits = extra_parameters(recipe, span, elements)
        yield _weight_op("choice_mask", elements, _choice_ops(span.pattern)) | {
            "b_elements": logits, "b_role": "state",
        }  # fmt: skip
    if recipe.quantize:
        yield _weight_op("quantize", elements, QUANTIZE_OPS)


def weight_dtype(recipe: Recipe) -> str:
    """The data type of products' weights that the recipe quantises, empty where it does not."""
    return recipe.quantize.format.partition("_")[0] if recipe.quantize else ""


def power(elements: int) -> Row:
    """The op that makes a weight from what is learned of it (Powerpropagation)."""
    return _weight_op("power", elements, POWER_OPS)


def shaping_gradient(recipe: Recipe, span: Span, elements: int) -> Iterator[Row]:
    """The ops from the weight gradient to that of the logits of a learned choice, its regularizer included."""
    if span.soft and isinstance(recipe.soft, Choice):
        logits = extra_parameters(recipe, span, elements)
        yield _weight_op("choice_gradient", elements, _choice_gradient_ops(span.pattern)) | {
            "a_role": "weight_gradient", "b_elements": elements, "b_role": "weight",
            "c_elements": logits, "c_role": "state",
        }  # fmt: skip


def rescaling(recipe: Recipe, elements: int) -> Iterator[Row]:
    """The op that gives the pruned gradient of a convolution its L1 norms back (SDGP's `maxnorm`)."""
    if recipe.rescale:
        yield {
            "stage": "VECTOR", "kind": "rescale", "m": 1, "n": elements, "ops_per_element": float(RESCALE_OPS),
            "a_elements": elements, "a_role": "gradient", "c_elements": elements, "c_role": "gradient",
        }  # fmt: skip


def _weight_op(kind: str, elements: int, ops: float) -> Row:
    return {
        "stage": "VECTOR", "kind": kind, "m": 1, "n": elements, "ops_per_element": float(ops),
        "a_elements": elements, "a_role": "weight", "c_elements": elements, "c_role": "weight",
    }  # fmt: skip


def _choice_ops(pattern: Pattern) -> float:
    """Per weight: for each of C candidates scale, noise, exp, sum, divide; the mask as a sum of C; times w."""
    candidates = comb(pattern.m, pattern.n)
    return (5 * candidates + 2 * candidates * pattern.m + pattern.m) / pattern.m


def _choice_gradient_ops(pattern: Pattern) -> float:
    """Per weight: g times w, C inner products, the softmax's 4 ops per candidate and its scale, the regularizer's 2."""
    candidates = comb(pattern.m, pattern.n)
    return (pattern.m + 2 * candidates * pattern.m + 5 * candidates + 2 * pattern.m) / pattern.m


def extra_parameters(recipe: Recipe, span: Span, elements: int) -> int:
    """Learned values beside the weight: the logits of a choice."""
    if not (span.soft and isinstance(recipe.soft, Choice)):
        return 0
    return elements // span.pattern.m * comb(span.pattern.m, span.pattern.n)


def freezes(recipe: Recipe, span: Span) -> bool:
    """Whether weights and all else that is not a logit stay as they are in this span."""
    return span.soft and isinstance(recipe.soft, Choice) and recipe.soft.weights == "frozen"


def gradient_ops(recipe: Recipe, span: Span) -> int:
    """Arithmetic that the recipe adds to the update of each weight with a mask; mask bits are not counted."""
    if not span.prunes:
        return 0
    ops = DECAY_OPS if recipe.decay else 0
    if span.soft and isinstance(recipe.soft, Sigmoid):
        return ops + SIGMOID_GRADIENT_OPS
    return ops + (MASKED_OPS if recipe.gradient != "ste" else 0)


def require_adam(recipe: Recipe, optimizer: str) -> None:
    """Raise UnsupportedError if the recipe freezes a second moment that the optimizer does not have."""
    if recipe.freeze_variance and optimizer not in ("adam", "adamw"):
        raise UnsupportedError(f"recipe {recipe.name!r} freezes Adam's variance; {optimizer!r} has none")
