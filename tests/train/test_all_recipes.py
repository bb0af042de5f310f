"""Every recipe in training: the run is the plan, a cut run ends in the same bits, an evaluation changes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from nmsim.sparsity.distribution import weight_budget
from nmsim.sparsity.recipe import Recipe, all_recipes, get_recipe
from nmsim.traces.verify import verify
from nmsim.train import checkpoint
from nmsim.train.config import TrainingFile
from nmsim.train.loop import Trainer
from nmsim.train.recipes.execution import Execution
from nmsim.train.update import master_dtype, rule_name
from nmsim.workloads.optable import Workload
from tests.train.test_loop import COLUMNS, TASKS, ops

STEPS = 20
NETWORKS = ("mlp", "resnet9_narrow", "vit_tiny", "transformer", "language_model")
SHRUNK = {"resnet9_narrow": ("images", {"size": 12, "train": 8, "test": 4})}
TRAINED = [recipe for recipe in all_recipes() if recipe.trains]

PHASES = {
    "asp": [("dense", 0), ("sparse", 10)],
    "asp_permuted": [("dense", 0), ("sparse", 10)],
    "mask_decay": [("dense", 0), ("soft", 2), ("sparse", 12)],
    "maskllm": [("dense", 0), ("soft", 10)],
    "maskllm_joint": [("dense", 0), ("soft", 10)],
    "mdgf_cosine": [("soft", 0), ("sparse", 12)],
    "mdgf_exponential": [("soft", 0), ("sparse", 16)],
    "mdgf_linear": [("soft", 0), ("sparse", 12)],
    "pdp": [("dense", 0), ("soft", 2), ("sparse", 16)],
    "pdp_channels": [("dense", 0), ("soft", 2), ("sparse", 16)],
    "powerprop": [("dense", 0), ("sparse", 12)],
    "sdgf_geometric": [("sparse", 0), ("sparse 2", 5), ("sparse 3", 10), ("sparse 4", 15)],
    "sdgf_stepwise": [("sparse", 0), ("sparse 2", 6), ("sparse 3", 13)],
    "step": [("dense", 0), ("sparse", 6)],
    "structure_decay": [("dense", 0), ("sparse", 2), ("sparse 2", 7)],
}
"""By hand from the shares that the files give, of 20 steps, with 1:4; recipes not named have one phase.

Stepwise 3:4, 2:4, 1:4 begins at 20 i // 3; halving 3:4, 1:4 at 2 + 10 i // 2; geometric at 20 i // 4.
"""


def settings(task: str, recipe: str | dict[str, Any], pattern: str, **more: Any) -> TrainingFile:
    """A run of 20 steps, evaluated at the end only."""
    name, options = SHRUNK.get(task, TASKS[task]["data"])
    fields: dict[str, Any] = {
        "kind": "training", "model": TASKS[task]["model"], "data": {"name": name, "options": options},
        "recipe": recipe, "pattern": pattern, "steps": STEPS, "batch": 16 if task == "mlp" else 4,
        "schedule": {"name": "constant", "rate": 0.003}, "evaluate_every": STEPS,
    }  # fmt: skip
    if get_recipe(recipe).freeze_variance:
        fields["optimizer"] = {"name": "adamw"}
    return TrainingFile.model_validate(fields | more)


def pattern_for(recipe: Recipe) -> str:
    """A pattern that the recipe accepts."""
    if not recipe.prunes:
        return "dense"
    channels = getattr(recipe.soft, "channels", False)
    return "unstructured:0.3" if recipe.growth or channels else "1:4"


def planned(trainer: Trainer) -> Workload:
    """What the planner lists for the run, told of the trace's `found` and `start` only."""
    config, info = trainer.config, trainer.trace().info
    told: dict[str, Any] = {"found": info["found"], "calibration": info["calibration"]}
    if config.described.start == "auto":
        told["start"] = info["start"]
    return trainer.model.forward().training(
        config.recipe, config.pattern, steps=config.steps, dtype=config.precision, optimizer=rule_name(config),
        master_dtype=master_dtype(config), **told,
    )  # fmt: skip


def first_sparse(work: Workload) -> int | None:
    """The first step of the first phase that has a product with a pattern, searched in the ops."""
    frame = work.to_frame()
    sparse = frame[(frame["kind"] == "gemm") & ((frame["a_pattern"] != "dense") | (frame["b_pattern"] != "dense"))]
    return None if sparse.empty else work.phases[int(sparse["phase"].min())].first_step


def assert_run_is_plan(trainer: Trainer) -> None:
    """All ops in order with sizes, patterns, repeats; mask searches, elsewhere in a step, by their number."""
    trace, plan = trainer.trace(), planned(trainer)
    assert verify(trace) == []
    executed, listed, stage = ops(trace.workload()), ops(plan), COLUMNS.index("stage")
    assert [op for op in executed if op[stage] != "PRUNE"] == [op for op in listed if op[stage] != "PRUNE"]
    searches, expected = (Counter(op for op in found if op[stage] == "PRUNE") for found in (executed, listed))
    assert searches == expected
    assert trace.workload().phases == plan.phases
    assert trace.info["first_sparse_step"] == first_sparse(plan)


@pytest.mark.parametrize("task", NETWORKS)
@pytest.mark.parametrize("recipe", [recipe.name for recipe in TRAINED])
def test_the_run_is_the_plan(recipe: str, task: str):
    """Each recipe file as it is on each kind of network; phases are those counted by hand."""
    described = get_recipe(recipe)
    asked: Any = {"base": recipe, "growth": {"every": 4}} if described.growth else recipe
    trainer = Trainer(settings(task, asked, pattern_for(described)))
    trainer.train()
    assert_run_is_plan(trainer)
    phases = [(phase.name, phase.first_step) for phase in trainer.trace().executed.phases]
    if not trainer.execution.course.found:
        assert phases == PHASES.get(recipe, [("train", 0)])


def test_the_table_of_phases_names_recipes():
    """A line for a recipe that is not there would test nothing."""
    assert PHASES.keys() <= {recipe.name for recipe in TRAINED}


def refreshed(recipe: str, period: int) -> list[dict[str, Any]]:
    """The prunes of a recipe, those that are renewed more often."""
    prunes = [prune.model_dump() for prune in get_recipe(recipe).prunes]
    return [prune | {"refresh": period if prune["refresh"] > 1 else prune["refresh"]} for prune in prunes]


def renewed(recipe: str, period: int) -> list[dict[str, Any]]:
    """The prunes of a recipe, permuted ones with another period of the order of channels."""
    prunes = [prune.model_dump() for prune in get_recipe(recipe).prunes]
    return [prune | ({"renew": period} if prune["mask"] == "permuted" else {}) for prune in prunes]


VARIANTS: dict[str, tuple[str | dict[str, Any], str]] = {
    "a decay in jumps": ({"base": "mask_decay", "soft": {"every": 3}}, "1:4"),
    "a decay that its rate ends": ({"base": "mdgf_linear", "soft": {"rate": 0.2}}, "1:4"),
    "a decay that its end cuts": ({"base": "mdgf_exponential", "soft": {"rate": 0.1}}, "1:4"),
    "a decay of no step": ({"base": "mask_decay", "start": 12, "soft": {"end": 12}}, "1:4"),
    "a structure, quantised": ({"base": "sdgf_stepwise", "quantize": {"format": "int8"}}, "2:4"),
    "a power, quantised": ({"base": "powerprop", "quantize": {"format": "int8"}}, "2:4"),
    "a choice that ends": ({"base": "maskllm", "start": "20 %", "soft": {"end": "60 %"}}, "2:4"),
    "a joint choice that ends": ({"base": "maskllm_joint", "start": "20 %", "soft": {"end": "60 %"}}, "2:4"),
    "one shot at half": ({"base": "oneshot_magnitude", "start": "50 %"}, "2:4"),
    "growth that starts late": ({"base": "srigl", "start": 3, "growth": {"every": 4}}, "unstructured:0.2"),
    "growth that removes neurons": (
        {"base": "srigl", "growth": {"every": 4, "salience": 0.9}}, "unstructured:0.05"),
    "adapters, masks renewed": (
        {"base": "slope", "adapters": {"rank": 2, "start": "60 %"}, "prunes": refreshed("slope", 7)}, "2:4"),
    "adapters on dense steps": ({"base": "slope", "start": "30 %", "adapters": {"start": "10 %"}}, "2:4"),
    "transposable, renewed": ({"base": "transposable", "prunes": refreshed("transposable", 6)}, "2:4"),
    "structure that densifies": ({"base": "sdgf_geometric", "structure": {"kind": "densify", "end": "50 %"}}, "1:4"),
    "channels reordered": ({"base": "bimask", "start": 3, "prunes": renewed("bimask", 6)}, "2:4"),
    "one shot at half, by inputs": ({"base": "oneshot_sparsegpt", "start": "50 %"}, "2:4"),
    "a prior by inputs": ({"base": "maskllm", "start": "20 %", "soft": {"end": "60 %", "prior": "wanda"}}, "2:4"),
    "start by the variance": ({"base": "step", "start": "auto"}, "2:4"),
}  # fmt: skip


@pytest.mark.parametrize("task", ["mlp", "vit_tiny"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_are_planned_too(variant: str, task: str):
    """Parameters that no file has, and what only the run decides: fan-ins that it found, the start."""
    trainer = Trainer(settings(task, *VARIANTS[variant]))
    trainer.train()
    assert_run_is_plan(trainer)


def test_a_fan_in_that_the_run_found_is_in_its_trace():
    """Of the neurons of the mlp's pruned layer the run removes some, and gives their inputs to the others."""
    trainer = Trainer(settings("mlp", *VARIANTS["growth that removes neurons"]))
    trainer.train()
    found = trainer.trace().info["found"]
    assert found
    for step, layer, pattern in found:
        assert step % 4 == 0
        fans = np.count_nonzero(trainer.execution.masks[layer, "FF"], axis=0)
        if (step, layer, pattern) == tuple(found[-1]):
            assert sorted(set(fans.tolist())) == [0, int(pattern.removeprefix("fan-in:"))]


@pytest.mark.parametrize("task", ["mlp", "resnet9_narrow"])
def test_powers_start_from_the_network_that_was_drawn(task: str):
    """Weights of FF before the first step are those of the dense run, of which theta is the root with its sign."""
    powered, dense = (Trainer(settings(task, r, p)) for r, p in (("powerprop", "1:4"), ("dense", "dense")))
    layers = powered.execution.course.powered
    assert layers
    for name, drawn in dense.weights.items():
        theta = powered.weights[name].value
        expected = np.sign(drawn.value) * np.sqrt(np.abs(drawn.value)) if name in layers else drawn.value
        np.testing.assert_allclose(theta, expected, rtol=1e-6, err_msg=name)
        used = powered.execution.forward_weight(name, theta)[0]
        np.testing.assert_allclose(used, drawn.value, rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("base", ["rigl", "srigl"])
def test_growth_that_starts_late_keeps_the_largest_weights(base: str):
    """From step 3 on: weights are as training left them, the largest of them (of each neuron) kept and the others 0;
    the run searches the first mask."""
    config = settings("mlp", {"base": base, "start": 3, "growth": {"every": 4}}, "unstructured:0.2")
    trainer, dense = Trainer(config), Trainer(settings("mlp", "dense", "dense"))
    for run in (trainer, dense):
        run.train(3)
    np.testing.assert_array_equal(trainer.weights["fc2"].value, dense.weights["fc2"].value)
    before = np.abs(trainer.weights["fc2"].value)
    assert ("fc2", "FF") not in trainer.execution.masks
    trainer.train(1)
    mask = trainer.execution.masks["fc2", "FF"]
    assert trainer.execution.searches["fc2", "FF"] == 1
    rows = [slice(None)] if base == "rigl" else [(slice(None), i) for i in range(mask.shape[1])]
    for row in rows:
        assert before[row][mask[row]].min() > before[row][~mask[row]].max()
    kept = np.count_nonzero(mask, axis=0)
    assert mask.sum() == (round(0.2 * mask.size) if base == "rigl" else 32 * (weight_budget(1024, 0.2) // 32))
    assert base == "rigl" or len(set(kept.tolist())) == 1


def test_layers_left_dense_are_those_of_the_whole_run():
    """Geometric towards 1:4 begins with 8:32, which does not divide 48 channels, and ends with 1:4, which does: only
    the first layer and the classifier are pruned in no step."""
    sizes = {"model": {"name": "mlp", "sizes": {"width": 48}}}
    trainer = Trainer(settings("mlp", "sdgf_geometric", "1:4", **sizes))
    trainer.train()
    assert trainer.trace().info["left_dense"] == {"fc1": "first layer", "head": "classifier"}


MECHANISMS: dict[str, tuple[str | dict[str, Any], str]] = {
    "mask_decay": ("mask_decay", "1:4"),
    "sdgf_geometric": ("sdgf_geometric", "1:4"),
    "pdp": ("pdp", "1:4"),
    "pdp_channels": ("pdp_channels", "unstructured:0.3"),
    "powerprop": ("powerprop", "1:4"),
    "srigl": VARIANTS["growth that removes neurons"],
    "rigl": ({"base": "rigl", "growth": {"every": 4}}, "unstructured:0.3"),
    "maskllm": ("maskllm", "2:4"),
    "maskllm that ends": VARIANTS["a choice that ends"],
    "slope": VARIANTS["adapters, masks renewed"],
    "step": ("step", "2:4"),
    "step auto": VARIANTS["start by the variance"],
    "bimask": ("bimask", "2:4"),
    "asp_permuted": ("asp_permuted", "2:4"),
    "transposable": VARIANTS["transposable, renewed"],
    "oneshot_sparsegpt": ("oneshot_sparsegpt", "2:4"),
    "quantised": ({"base": "srste", "quantize": {"format": "int8"}}, "2:4"),
    "sdgp_random": ("sdgp_random", "2:4"),
}


def contents(trainer: Trainer, path: Path) -> dict[str, bytes]:
    """All that a checkpoint keeps, to the byte."""
    checkpoint.save(trainer, path)
    with np.load(path) as data:
        return {name: data[name].tobytes() for name in data.files}


CUTS = (0, 1, 2, 4, 6, 9, 10, 11, 12, 15, 16, 19)
"""Inside of every phase that a mechanism has, and the steps 2, 4, 6, 10, 12 and 16 at which the next one begins."""
CONVOLVED = ("pdp", "srigl", "maskllm that ends", "bimask", "asp_permuted", "transposable", "sdgp_random")


@pytest.mark.parametrize(
    ("task", "mechanism", "cuts"),
    [("mlp", name, CUTS) for name in MECHANISMS] + [("resnet9_narrow", name, (11,)) for name in CONVOLVED],
)
def test_a_run_cut_anywhere_ends_in_the_same_bits(task: str, mechanism: str, cuts: Sequence[int], tmp_path: Path):
    """Parameters, buffers, optimizer, masks, random numbers and trace, cut in each phase and at its borders."""
    config = settings(task, *MECHANISMS[mechanism], measure_every=3)
    whole = Trainer(config)
    checkpoint.save(whole, tmp_path / "0")
    whole.train(on_step=lambda run: checkpoint.save(run, tmp_path / str(run.step)))
    expected, different = contents(whole, tmp_path / "end"), []
    for cut in cuts:
        resumed = Trainer(config)
        checkpoint.restore(resumed, tmp_path / str(cut))
        resumed.train()
        if contents(resumed, tmp_path / "resumed") != expected:
            different.append(cut)
    assert different == []


LATE: dict[str, tuple[dict[str, Any], str]] = {
    "sparsegpt at half": ({"base": "oneshot_sparsegpt", "start": "50 %"}, "2:4"),
    "wanda at half": ({"base": "oneshot_wanda", "start": "50 %"}, "2:4"),
    "a choice from wanda": ({"base": "maskllm", "start": "20 %", "soft": {"end": "60 %", "prior": "wanda"}}, "2:4"),
}
"""Masks by the inputs of layers, found while training goes on: an evaluation may be the first to want them."""


@pytest.mark.parametrize("mechanism", [*MECHANISMS, *LATE, "asp", "static"])
def test_an_evaluation_leaves_the_run_as_it_is(mechanism: str, tmp_path: Path):
    """Before every step, at the borders of phases too, all that a checkpoint keeps is the same after an evaluation,
    and a second evaluation gives the same."""
    asked = {**MECHANISMS, **LATE, "asp": ("asp", "2:4"), "static": ("static", "2:4")}[mechanism]
    looked_at, plain = (Trainer(settings("mlp", *asked)) for _ in range(2))
    plain.train()
    for _ in range(STEPS):
        before = contents(looked_at, tmp_path / "before")
        assert looked_at.evaluate() == looked_at.evaluate()
        assert contents(looked_at, tmp_path / "after") == before
        looked_at.train(1)
    assert contents(looked_at, tmp_path / "end") == contents(plain, tmp_path / "plain")


@pytest.mark.parametrize("recipe", ["oneshot_magnitude", "oneshot_wanda", "oneshot_sparsegpt"])
def test_pruned_after_the_last_step(recipe: str):
    """The weights of the run's end are 2:4 in groups along in, and not before; the trace has the search and a checked
    density."""
    trainer = Trainer(settings("mlp", recipe, "2:4"))
    trainer.train(STEPS - 1)
    weight = trainer.weights["fc2"].value
    assert np.count_nonzero(weight) == weight.size
    trainer.train()
    groups = weight.T.reshape(len(weight.T), -1, 4)
    assert (np.count_nonzero(groups, axis=-1) == 2).all()
    trace = trainer.trace()
    found = trace.executed.to_frame().query("stage == 'PRUNE' and kind == 'prune'")
    assert found[["layer", "a_pattern", "repeat"]].to_numpy().tolist() == [["fc2", "2:4", 1]]
    code = trace.executed.layers.index("fc2")
    last = (trace.intervals["layer"] == code) & (trace.intervals["stage"] == 0) & (trace.intervals["step"] == STEPS)
    assert trace.intervals["density"][last].tolist() == [0.5]
    assert trace.intervals["checked"][last].tolist() == [1]


def test_an_evaluation_before_the_start_sees_dense_weights_and_after_it_masks():
    """ASP from step 10: an evaluation after 9 steps is that of the weights, after 10 that of the weights times mask."""
    trainer = Trainer(settings("mlp", "asp", "2:4"))
    trainer.train(9)
    judge = trainer.execution.snapshot()
    judge.begin_step(9)
    weight = trainer.weights["fc2"].value
    assert judge.forward_weight("fc2", weight)[1] is None
    trainer.train(1)
    judge = trainer.execution.snapshot()
    judge.begin_step(10)
    used, pattern = judge.forward_weight("fc2", weight)
    assert str(pattern) == "2:4"
    assert np.count_nonzero(used) == weight.size // 2
    assert np.count_nonzero(weight) == weight.size


def test_frozen_weights_stay_and_logits_stop_with_the_soft_phase():
    """MaskLLM from step 4 to 12: weights do not change while logits are learned, and logits do not after that."""
    trainer = Trainer(settings("mlp", *VARIANTS["a choice that ends"]))
    logits = next(p for p in trainer.parameters if p.name == "fc2.logits")
    weight, moved = trainer.weights["fc2"], []
    for _ in range(STEPS):
        before = weight.value.copy(), logits.value.copy()
        trainer.train(1)
        moved.append((not np.array_equal(weight.value, before[0]), not np.array_equal(logits.value, before[1])))
    assert moved == [(True, False)] * 4 + [(False, True)] * 8 + [(True, False)] * 8


def test_the_variance_stays_from_the_start_on():
    """STEP from step 6 (30 % of 20): Adam's second moment changes in the steps before and in no later one."""
    trainer = Trainer(settings("mlp", "step", "2:4"))
    changed = []
    for _ in range(STEPS):
        before = trainer.optimizer.state().get("fc2.weight/square", np.zeros(1))
        trainer.train(1)
        changed.append(not np.array_equal(trainer.optimizer.state()["fc2.weight/square"], before))
    assert changed == [True] * 6 + [False] * 14


GROUPED = [
    recipe.name for recipe in TRAINED
    if any(p.operand == "weight" for p in recipe.prunes) and not recipe.growth and recipe.soft is None
    and not recipe.name.startswith("oneshot")
]  # fmt: skip
SHAPES = st.one_of(
    st.tuples(*[st.integers(1, 3).map(lambda i: 16 * i)] * 2),
    st.tuples(st.just(3), st.just(3), *[st.integers(1, 2).map(lambda i: 16 * i)] * 2),
)


def kept(mask: np.ndarray, m: int, axis: int, order: np.ndarray | None = None) -> np.ndarray:
    """How many are kept of each m consecutive elements along an axis, in this order of it."""
    moved = np.moveaxis(mask if order is None else np.take(mask, order, axis), axis, -1)
    return np.count_nonzero(moved.reshape(*moved.shape[:-1], -1, m), axis=-1)


@examples(max_examples=120, deadline=None)
@given(
    st.sampled_from(GROUPED), SHAPES, st.sampled_from(["1:2", "2:4", "1:4", "2:8", "3:8"]), st.integers(0, 2**32 - 1)
)
def test_masks_of_groups(recipe: str, shape: tuple[int, ...], pattern: str, seed: int):
    """At the last step of a run, on any weight: n of every m inputs in FF, in the order of its groups; of every m
    outputs in BP n, or at most n where BP prunes what FF keeps, and then nothing that FF dropped; a transposable mask
    has both and is one."""
    n, m = map(int, pattern.split(":"))
    run = Execution(recipe, pattern, {"x": ("FF", "BP")}, steps=STEPS, seed=seed)
    run.begin_step(STEPS - 1)
    weight = np.random.default_rng(seed).standard_normal(shape)
    before = weight.copy()
    forward = run.forward_weight("x", weight)[0].copy()
    backward, stated, axis = run.backward_weight("x", weight)
    described = run.recipe
    if described.prune("FF"):
        mask = run.masks["x", "FF"]
        learned = before if described.power == 1 else np.sign(before) * before**2
        np.testing.assert_allclose(forward, learned * mask, rtol=1e-12)
        counts = kept(mask, m, -2, run.order("x", "FF"))
        assert (counts <= n).all() if described.prunes[0].mask == "transposable" else (counts == n).all()
    prune = described.prune("BP")
    if prune is None:
        np.testing.assert_array_equal(backward, forward)
    elif prune.mask == "transposable":
        assert ("x", "BP") not in run.masks
        assert (kept(mask, m, -1) <= n).all()
        np.testing.assert_array_equal(backward, forward)
    else:
        mask_bp = run.masks["x", "BP"]
        assert axis == -1
        assert str(stated) == pattern
        counts = kept(mask_bp & (mask if prune.within else True), m, -1, run.order("x", "BP"))
        assert (counts <= n).all() if prune.within else (counts == n).all()
        if prune.within:
            assert not (backward != 0)[~mask].any()
        np.testing.assert_array_equal(backward, np.where(mask_bp, forward if prune.within else before, 0))


@examples(max_examples=40, deadline=None)
@given(SHAPES, st.sampled_from(["1:4", "2:4", "4:8"]), st.integers(0, 2**32 - 1))
def test_a_transposable_mask_is_full(shape: tuple[int, ...], pattern: str, seed: int):
    """Nothing can be added: where a row and a column of a tile both have room, the element they share is kept."""
    n, m = map(int, pattern.split(":"))
    run = Execution("transposable", pattern, {"x": ("FF", "BP")}, steps=STEPS)
    run.forward_weight("x", np.random.default_rng(seed).standard_normal(shape))
    mask = run.masks["x", "FF"]
    inputs = np.repeat(np.moveaxis(kept(mask, m, -2), -1, -2), m, axis=-2)
    outputs = np.repeat(kept(mask, m, -1), m, axis=-1)
    assert mask[(inputs < n) & (outputs < n)].all()


@pytest.mark.parametrize("density", [0.05, 0.3])
@pytest.mark.parametrize("recipe", ["srigl", "srigl_fixed", "rigl"])
@pytest.mark.parametrize("task", ["mlp", "vit_tiny", "resnet9_narrow"])
def test_masks_that_grow_keep_to_their_budget(recipe: str, task: str, density: float):
    """At every step: constant fan-in in all neurons that are not removed, and none is where they stay; no more
    weights than the share of the layer allows (at least one of each neuron), RigL just so many all along; what is not
    kept is zero, and so is its momentum."""
    asked = {"base": recipe, "growth": {"every": 4, "salience": 0.6}}
    trainer = Trainer(settings(task, asked, f"unstructured:{density}"))
    first = {place: int(mask.sum()) for place, mask in trainer.execution.masks.items()}
    assert first
    moved = False
    for _ in range(STEPS):
        before = dict(trainer.execution.masks)
        trainer.train(1)
        for (layer, stage), mask in trainer.execution.masks.items():
            budget = weight_budget(mask.size, trainer.execution.course.budgets[layer])
            fans = np.count_nonzero(mask.reshape(-1, mask.shape[-1]), axis=0)
            if recipe == "rigl":
                assert fans.sum() == first[layer, stage]
                assert abs(int(fans.sum()) - budget) <= 1
            else:
                assert fans.sum() <= max(budget, mask.shape[-1])
                assert len(set(fans.tolist()) - {0}) == 1
                assert fans.all() or recipe == "srigl"
            assert not trainer.optimizer.state()[f"{layer}.weight/velocity"][~mask].any()
            moved |= not np.array_equal(mask, before[layer, stage])
    used = {layer: trainer.execution.forward_weight(layer, trainer.weights[layer].value)[0] for layer, _ in first}
    assert all(not used[layer][~trainer.execution.masks[layer, "FF"]].any() for layer, _ in first)
    assert moved
