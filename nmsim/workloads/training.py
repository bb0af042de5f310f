"""Training: a recipe on a model becomes the forward, backward, mask and update ops of a run of steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nmsim.errors import UnsupportedError, unknown
from nmsim.sparsity.pattern import Pattern
from nmsim.sparsity.recipe import Recipe, get_recipe
from nmsim.workloads.lower import backward_rows, forward_rows
from nmsim.workloads.lower_products import Row
from nmsim.workloads.model import Model, known_dtype, size, with_dtype
from nmsim.workloads.modelfile import Parameter
from nmsim.workloads.optable import DTYPE_BITS, Phase, Workload, WorkloadBuilder
from nmsim.workloads.pruning import Plan
from nmsim.workloads.shapes import parameters, weight_of


@dataclass(frozen=True)
class Optimizer:
    """Per parameter: arithmetic `ops`, and the elements of `state` read and written (master weight, moments)."""

    ops: float
    state: int


OPTIMIZERS = {
    "sgd": Optimizer(2, 1),  # w -= lr·g
    "sgd_momentum": Optimizer(6, 2),  # g += λ·w; v = μ·v + g; w -= lr·v
    # m = β₁·m + (1 - β₁)·g: 3; v = β₂·v + (1 - β₂)·g²: 4; w -= lr'·m / (√(v·c) + ε): 6
    "adam": Optimizer(13, 3),
    "adamw": Optimizer(14, 3),  # adam, and w *= 1 - lr·λ
}
"""Update rules; weight decay where the rule is commonly used with it (not in plain sgd)."""

DECAY_OPS = 3  # g += λ·w where the forward mask dropped w: select, multiply, add
MASKED_OPS = 1  # g = 0 where the mask dropped w: select


def expand(
    model: Model,
    recipe: str | Recipe = "dense",
    pattern: str | Pattern = "dense",
    *,
    steps: int = 1,
    dtype: str = "fp16",
    optimizer: str = "sgd_momentum",
    keep_dense: str | Sequence[str] | None = None,
    master_dtype: str = "fp32",
    first_input_gradient: bool = False,
) -> Workload:
    """The ops of `steps` training steps of `model` by `recipe`, each row executed `repeat` times in all.

    Order: forward, backward from the last layer to the first (operations on the output, BP, WU), then UPDATE and
    PRUNE for each layer. A recipe that does not train (`inference`) has the forward pass only, and may be dense.
    `keep_dense` are layer names or globs to leave dense beside those of the file. Layers with nothing learned before
    them get no input gradient unless `first_input_gradient`. Gradients have `dtype`, optimizer state `master_dtype`;
    the updated master is rounded to `dtype` where that is narrower.

    Raises PatternError if recipe and pattern do not go together, UnsupportedError for an unknown name or a model
    set to decode, ShapeError for sizes that are no sizes.
    """
    recipe = get_recipe(recipe)
    pattern = Pattern.parse(pattern)
    globs = [keep_dense] if isinstance(keep_dense, str) else list(keep_dense or ())
    plan = Plan.make(model, recipe, pattern, globs)
    if recipe.trains and model.decode:
        raise UnsupportedError(f"{model.file.name!r} is set to decode; decoding does not train")
    steps, dtype = size("steps", steps), known_dtype(dtype)
    rows = list(_forward(model, plan))
    if recipe.trains:
        rows += _backward(model, plan, first_input_gradient)
        rows += _update(model, plan, _Update(_optimizer(optimizer), known_dtype(master_dtype), dtype))
    options = {"optimizer": optimizer, "master_dtype": master_dtype} if recipe.trains else {}
    info = {**model.info, "recipe": recipe.name, "pattern": str(pattern), "dtype": dtype, "steps": steps, **options}
    phase = Phase("train" if recipe.trains else "inference", 0, steps)
    return _build(model, rows, dtype, phase, info)


def _build(model: Model, rows: list[Row], dtype: str, phase: Phase, info: dict[str, object]) -> Workload:
    """The table of `rows`, whose `repeat` is so far the period of the op in steps."""
    builder = WorkloadBuilder(model.file.name)
    for row in rows:
        if repeat := phase.steps // row.get("repeat", 1):
            builder.add(**with_dtype(row, dtype) | {"repeat": repeat})
    return builder.build(phases=(phase,), info=info, model=model)


def _forward(model: Model, plan: Plan) -> Iterator[Row]:
    for layer in model.layers:
        for row in forward_rows(layer, model.run, plan.recipe.trains):
            yield from plan.online_masks(layer, row)
            yield plan.apply(layer, row)


def _backward(model: Model, plan: Plan, first_input_gradient: bool) -> Iterator[Row]:
    """From the last layer to the first that learns something or lies behind one that does."""
    learned = [bool(parameters(layer)) and not isinstance(layer, Parameter) for layer in model.layers]
    first = 0 if first_input_gradient else learned.index(True) if any(learned) else len(learned)
    for i in range(len(learned) - 1, first - 1, -1):
        layer = model.layers[i]
        for row in backward_rows(layer, model.run, input_gradient=first_input_gradient or i > first):
            yield from plan.online_masks(layer, row)
            yield plan.apply(layer, row)


@dataclass(frozen=True)
class _Update:
    optimizer: Optimizer
    master_dtype: str
    dtype: str


def _optimizer(name: str) -> Optimizer:
    if name not in OPTIMIZERS:
        raise UnsupportedError(unknown("optimizer", name, OPTIMIZERS))
    return OPTIMIZERS[name]


def _update(model: Model, plan: Plan, update: _Update) -> Iterator[Row]:
    """For each layer, the optimizer's step, the rounded copy, then the new masks."""
    for layer in model.layers:
        if count := parameters(layer):
            weight = weight_of(layer)
            masked = plan.pruned(layer, "FF", "weight") and weight is not None
            share = weight.elements / count if masked and weight else 0.0
            yield from _step(layer.name, count, update, share * _mask_ops(plan.recipe))
        yield from plan.weight_masks(layer)


def _mask_ops(recipe: Recipe) -> int:
    """Arithmetic that the recipe adds to the update of each weight of a pruned layer; mask bits are not counted."""
    return (DECAY_OPS if recipe.decay else 0) + (MASKED_OPS if recipe.gradient == "masked" else 0)


def _step(layer: str, count: int, update: _Update, mask_ops: float) -> Iterator[Row]:
    master, state = update.master_dtype, update.optimizer.state * count
    row: Row = {"layer": layer, "stage": "UPDATE", "m": count}
    yield row | {
        "kind": "optimizer", "ops_per_element": update.optimizer.ops + mask_ops,
        "a_elements": count, "a_role": "weight_gradient",
        "b_elements": state, "b_role": "state", "b_dtype": master,
        "c_elements": state, "c_role": "state", "c_dtype": master,
    }  # fmt: skip
    if DTYPE_BITS[update.dtype] < DTYPE_BITS[master]:
        # The master is still in the update unit: only the rounded copy moves.
        yield row | {"kind": "cast", "ops_per_element": 1.0, "c_elements": count, "c_role": "weight", "a_dtype": master}
