"""Training: a recipe on a model becomes the forward, backward, mask and update ops of a run of steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nmsim.errors import UnsupportedError, unknown
from nmsim.sparsity.pattern import DENSE, Pattern
from nmsim.sparsity.recipe import RECIPES, Recipe, get_recipe
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
    start: int | None = None,
) -> Workload:
    """The ops of `steps` training steps of `model` by `recipe`, each row executed `repeat` times in all.

    Order: forward, backward from the last layer to the first (operations on the output, BP, WU), then UPDATE and
    PRUNE for each layer. A recipe that does not train (`inference`) has the forward pass only, and may be dense.
    `keep_dense` are layer names or globs to leave dense beside those of the file. Layers with nothing learned before
    them get no input gradient unless `first_input_gradient`. Gradients have `dtype`, optimizer state `master_dtype`;
    the updated master is rounded to `dtype` where that is narrower. With `start` (None: the recipe's own) above 0
    the steps before it are a phase `dense`, those from it on a phase `sparse`.

    Raises PatternError if recipe and pattern do not go together, UnsupportedError for an unknown name or a model
    set to decode, ShapeError for sizes that are no sizes.
    """
    recipe = get_recipe(recipe)
    recipe = recipe.starting_at(recipe.start if start is None else start)
    pattern = Pattern.parse(pattern)
    globs = [keep_dense] if isinstance(keep_dense, str) else list(keep_dense or ())
    plan = Plan.make(model, recipe, pattern, globs)
    if recipe.trains and model.decode:
        raise UnsupportedError(f"{model.file.name!r} is set to decode; decoding does not train")
    steps, dtype = size("steps", steps), known_dtype(dtype)
    update = Update(optimizer_rule(optimizer), known_dtype(master_dtype), dtype)
    rows: list[Row] = []
    phases = _phases(recipe, steps)
    for index, phase in enumerate(phases):
        of_phase = plan if phase.first_step >= recipe.start else Plan.make(model, RECIPES["dense"], DENSE, globs)
        for row in _step_rows(model, of_phase, update, first_input_gradient):
            rows.append(row | {"phase": index})
    options: dict[str, object] = {"optimizer": optimizer, "master_dtype": master_dtype} if recipe.trains else {}
    options |= {"start": recipe.start} if recipe.start else {}
    info = {**model.info, "recipe": recipe.name, "pattern": str(pattern), "dtype": dtype, "steps": steps, **options}
    return _build(model, rows, dtype, phases, info)


def _phases(recipe: Recipe, steps: int) -> tuple[Phase, ...]:
    """One phase, or the dense steps before the recipe starts and the steps from there on."""
    if not recipe.start:
        return (Phase("train" if recipe.trains else "inference", 0, steps),)
    dense = Phase("dense", 0, min(recipe.start, steps))
    return (dense, Phase("sparse", recipe.start, steps - recipe.start)) if steps > recipe.start else (dense,)


def _step_rows(model: Model, plan: Plan, update: Update, first_input_gradient: bool) -> Iterator[Row]:
    yield from _forward(model, plan)
    if plan.recipe.trains:
        yield from _backward(model, plan, first_input_gradient)
        yield from _update(model, plan, update)


def _build(model: Model, rows: list[Row], dtype: str, phases: tuple[Phase, ...], info: dict[str, object]) -> Workload:
    """The table of `rows`, whose `repeat` is so far the period of the op in steps, 0 for once in its phase."""
    builder = WorkloadBuilder(model.file.name)
    for row in rows:
        period = row.get("repeat", 1)
        times = -(-phases[row["phase"]].steps // period) if period else 1  # the first at once
        builder.add(**with_dtype(row, dtype) | {"repeat": times})
    return builder.build(phases=phases, info=info, model=model)


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
class Update:
    """How parameters are updated: the rule, the type of its state, and that of the copy which products read."""

    optimizer: Optimizer
    master_dtype: str
    dtype: str


def optimizer_rule(name: str) -> Optimizer:
    """The update rule of that name; raises UnsupportedError listing the nearest."""
    if name not in OPTIMIZERS:
        raise UnsupportedError(unknown("optimizer", name, OPTIMIZERS))
    return OPTIMIZERS[name]


def _update(model: Model, plan: Plan, update: Update) -> Iterator[Row]:
    """For each layer, the optimizer's step, the rounded copy, then the new masks."""
    for layer in model.layers:
        if count := parameters(layer):
            weight = weight_of(layer)
            masked = plan.pruned(layer, "FF", "weight") and weight is not None
            share = weight.elements / count if masked and weight else 0.0
            yield from update_rows(layer.name, count, update, share * mask_ops(plan.recipe))
        yield from plan.weight_masks(layer)


def mask_ops(recipe: Recipe) -> int:
    """Arithmetic that the recipe adds to the update of each weight of a pruned layer; mask bits are not counted."""
    return (DECAY_OPS if recipe.decay else 0) + (MASKED_OPS if recipe.gradient != "ste" else 0)


def update_rows(layer: str, count: int, update: Update, mask_ops: float) -> Iterator[Row]:
    """The optimizer's step on the `count` parameters of a layer, and the rounded copy; `mask_ops` per parameter."""
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
