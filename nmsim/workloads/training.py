"""Training: a recipe on a model becomes the forward, backward, mask and update ops of a run of steps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nmsim.errors import UnsupportedError, unknown
from nmsim.sparsity.pattern import DENSE, Pattern
from nmsim.sparsity.recipe import Recipe, get_recipe
from nmsim.sparsity.timeline import Span
from nmsim.workloads.lower import backward_rows, forward_rows
from nmsim.workloads.lower_products import Row
from nmsim.workloads.model import Model, known_dtype, size, with_dtype
from nmsim.workloads.modelfile import Parameter
from nmsim.workloads.optable import DTYPE_BITS, Phase, Workload, WorkloadBuilder
from nmsim.workloads.pruning import Found, Plan
from nmsim.workloads.recipe_ops import SOFT_MASKS, require_adam
from nmsim.workloads.search_ops import CALIBRATION_SAMPLES
from nmsim.workloads.shapes import FlatLayer, parameters

SEARCH = "PRUNE"


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


def expand(
    model: Model,
    recipe: str | Mapping[str, Any] | Recipe = "dense",
    pattern: str | Pattern = "dense",
    *,
    steps: int | None = None,
    dtype: str = "fp16",
    optimizer: str = "sgd_momentum",
    keep_dense: str | Sequence[str] | None = None,
    master_dtype: str = "fp32",
    first_input_gradient: bool = False,
    start: int | None = None,
    found: Found = (),
    calibration: int = CALIBRATION_SAMPLES,
) -> Workload:
    """The ops of a whole run of `steps` training steps of `model` by `recipe`, each row executed `repeat` times in all.

    Without `steps` it is one step as a run ends with it: masks hard, the pattern the final one. A run has a phase for
    each stretch of steps with the same ops (but for mask searches): `dense` where no product is sparse, else `sparse`.
    Order in a step: forward, backward from the last layer to the first (operations on the output, BP, WU), then
    UPDATE and PRUNE for each layer. A recipe that does not train (`inference`) has the forward pass only.
    `keep_dense` are layer names or globs to leave dense beside those of the file. Layers with nothing learned before
    them get no input gradient unless `first_input_gradient`. Gradients have `dtype`, optimizer state `master_dtype`;
    the updated master is rounded to `dtype` where that is narrower. `start` replaces the recipe's own. What only a
    run can decide is told from its trace: `start` of a recipe that waits for Adam's variance, and `found`, the
    patterns of layers from a step on (the fan-in of SRigL after neurons were removed). One-shot masks are found by
    the inputs of `calibration` samples, whose forward passes are not counted. A recipe whose operand is a
    series of structured terms takes their patterns as `2:4+1:8`.

    Raises PatternError if recipe and pattern do not go together, UnsupportedError for an unknown name or a model
    set to decode, ShapeError for sizes that are no sizes.
    """
    recipe = get_recipe(recipe)
    if start is not None:
        recipe = recipe.starting_at(start)
    globs = [keep_dense] if isinstance(keep_dense, str) else list(keep_dense or ())
    if recipe.trains and model.decode:
        raise UnsupportedError(f"{model.file.name!r} is set to decode; decoding does not train")
    if steps is None and start and isinstance(recipe.start, int):
        steps = 1
    count = None if steps is None else size("steps", steps)
    terms = [
        Plan.make(model, recipe, term, globs, count, found=found, calibration=calibration)
        for term in _terms(recipe, pattern)
    ]
    plans, dtype = terms[0], known_dtype(dtype)
    update = Update(optimizer_rule(optimizer), known_dtype(master_dtype), dtype)
    if recipe.trains:
        require_adam(recipe, optimizer)
    if recipe.series:
        stretches = [(plans[0].span, list(_series_rows(model, [plan for plan, *_ in terms])))]
    else:
        stretches = _merged([(p.span, list(_step_rows(model, p, update, first_input_gradient))) for p in plans])
    options: dict[str, object] = {"optimizer": optimizer, "master_dtype": master_dtype} if recipe.trains else {}
    begin = plans[0].timeline.start
    options |= {"start": begin} if recipe.prunes and begin else {}
    info = {
        **model.info,
        "recipe": recipe.name,
        "pattern": str(pattern).replace(" ", ""),
        "dtype": dtype,
        "steps": steps or 1,
    }
    return _build(model, stretches, dtype, info | options, recipe.trains)


def _terms(recipe: Recipe, pattern: str | Pattern) -> list[Pattern]:
    """The pattern, or those of a series of structured terms, written 2:4+1:8."""
    if recipe.series and isinstance(pattern, str):
        return [Pattern.parse(term) for term in pattern.split("+")]
    return [Pattern.parse(pattern)]


def _series_rows(model: Model, terms: list[Plan]) -> Iterator[Row]:
    """The forward pass with a product for each term of an operand that is a sum of structured terms (TASD)."""
    for layer in model.layers:
        for row in forward_rows(layer, model.run, training=False):
            first, applied = terms[0], [plan.apply(layer, row) for plan in terms]
            sparse = all(any(f"{x}_pattern" in product for x in "ab") for product in applied)
            for plan, product in zip(terms, applied, strict=True) if sparse else [(first, first.apply(layer, row))]:
                if sparse:
                    yield from plan.before_product(layer, row)
                yield product


Stretch = tuple[Span, list[Row]]
"""Steps with the same ops; the `repeat` of mask searches is their number in all of them."""


def _merged(stretches: list[Stretch]) -> list[Stretch]:
    """Stretches that follow each other with the same ops, but for mask searches, become one; searches after the last
    step count with it."""
    merged: list[Stretch] = []
    for span, rows in stretches:
        if not span.steps and merged:
            before, known = merged[-1]
            merged[-1] = before, _with_searches(known, [row for row in rows if not row.get("online")])
            continue
        if merged and _program(merged[-1][1]) == _program(rows):
            before, known = merged[-1]
            merged[-1] = replace(before, steps=before.steps + span.steps), _with_searches(known, rows)
        else:
            merged.append((span, rows))
    return merged


def _program(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row["stage"] != SEARCH]


def _with_searches(known: list[Row], rows: list[Row]) -> list[Row]:
    """The rows of a stretch with the searches of the next one counted in; new kinds of search come last."""
    joined = [dict(row) for row in known]
    for row in rows:
        if row["stage"] != SEARCH:
            continue
        same = next((r for r in joined if r | {"repeat": 0} == row | {"repeat": 0}), None)
        if same is None:
            joined.append(row)
        else:
            same["repeat"] += row["repeat"]
    return joined


def _step_rows(model: Model, plan: Plan, update: Update, first_input_gradient: bool) -> Iterator[Row]:
    yield from _forward(model, plan)
    if plan.recipe.trains:
        yield from _backward(model, plan, first_input_gradient)
        yield from _update(model, plan, update)


def _build(model: Model, stretches: list[Stretch], dtype: str, info: dict[str, object], trains: bool) -> Workload:
    """The table: every op once in each step of its stretch, mask searches as often as they say."""
    builder = WorkloadBuilder(model.file.name)
    names = phase_names([rows for _, rows in stretches]) if trains else ["inference"]
    phases = []
    for i, ((span, rows), name) in enumerate(zip(stretches, names, strict=True)):
        phases.append(Phase(name, span.first_step, span.steps))
        for row in rows:
            online = row["stage"] == SEARCH and row.get("online")
            times = row["repeat"] if row["stage"] == SEARCH and not online else span.steps
            values = {k: v for k, v in row.items() if k != "online"}
            builder.add(**with_dtype(values, dtype) | {"phase": i, "repeat": times})
    return builder.build(phases=tuple(phases), info=info, model=model)


def phase_names(stretches: Sequence[Sequence[Mapping[str, Any]]]) -> list[str]:
    """One phase is `train`; of several each is `dense`, `soft` or `sparse`, numbered from the second of a kind on.

    In a soft one pruned weights still have a part in the forward product, so that nothing is skipped.
    """
    if len(stretches) == 1:
        return ["train"]
    seen: Counter[str] = Counter()
    names = []
    for rows in stretches:
        soft = any(row["kind"] in SOFT_MASKS for row in rows)
        name = "soft" if soft else "sparse" if any(_is_sparse(row) for row in rows) else "dense"
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name} {seen[name]}")
    return names


def _is_sparse(row: Mapping[str, Any]) -> bool:
    return row["kind"] == "gemm" and any(not row.get(f"{x}_pattern", DENSE).is_dense for x in "ab")


def _forward(model: Model, plan: Plan) -> Iterator[Row]:
    for layer in model.layers:
        for row in forward_rows(layer, model.run, plan.recipe.trains):
            yield from plan.before_product(layer, row)
            yield plan.apply(layer, row)
            if row["kind"] == "gemm":
                for adapter in plan.adapters(layer):
                    yield from forward_rows(adapter, model.run, plan.recipe.trains)


def _backward(model: Model, plan: Plan, first_input_gradient: bool) -> Iterator[Row]:
    """From the last layer to the first that learns something or lies behind one that does."""
    learned = [bool(parameters(layer)) and not isinstance(layer, Parameter) for layer in model.layers]
    first = 0 if first_input_gradient else learned.index(True) if any(learned) else len(learned)
    for i in range(len(learned) - 1, first - 1, -1):
        layer, wanted = model.layers[i], first_input_gradient or i > first
        for row in backward_rows(layer, model.run, input_gradient=wanted):
            yield from plan.before_product(layer, row)
            yield plan.apply(layer, row)
            yield from plan.after_product(layer, row)
            if row["kind"] == "gemm" and row["stage"] == "WU":
                down, up = plan.adapters(layer) or (None, None)
                if down and up:
                    yield from backward_rows(up, model.run, input_gradient=True)
                    yield from backward_rows(down, model.run, input_gradient=wanted)


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
        count, ops = plan.learned(layer)
        if count:
            yield from update_rows(layer.name, count, update, ops / count)
        yield from plan.weight_masks(layer, _positions(model, layer))


def _positions(model: Model, layer: FlatLayer) -> int:
    """Rows of the layer's forward product for one sample."""
    rows = [row["m"] for row in forward_rows(layer, model.run, True) if row["kind"] == "gemm"]
    return rows[0] // model.run.batch if rows else 1


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
