"""What recipes cost in a plan: products by stage, mask searches, ops around products; and what stays dense, and why."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from nmsim.arch.load import load_arch
from nmsim.engines.run import simulate
from nmsim.errors import UnsupportedError
from nmsim.sparsity.parts import Growth, Prune
from nmsim.sparsity.pattern import Pattern
from nmsim.sparsity.recipe import Recipe, all_recipes, get_recipe
from nmsim.sparsity.timeline import Timeline, updates
from nmsim.specfile import read_text, validate
from nmsim.workloads import recipe_ops
from nmsim.workloads.model import Model
from nmsim.workloads.modelfile import ModelFile
from nmsim.workloads.optable import Workload

TRAINED = [recipe for recipe in all_recipes() if recipe.trains]
HEAD = "kind: workload\nname: net\nsource: test\nsequence: {tokens: {length: 32}}\n"
EQUAL = """
  - {type: linear, name: a, in: 64, out: 64}
  - {type: linear, name: b, in: 64, out: 64}"""


def net(layers: str = EQUAL, keep: str = "{}") -> Workload:
    return Model.build(validate(ModelFile, read_text(f"{HEAD}keep_dense: {keep}\nlayers:{layers}")), batch=2).forward()


def shares(work: Workload, phase: int = -1) -> dict[str, Fraction]:
    """By stage, the share of the multiply-accumulates of a phase that is left where zeros in groups along k are
    skipped."""
    frame = work.to_frame()
    frame = frame[(frame["kind"] == "gemm") & (frame["phase"] == range(len(work.phases))[phase])]
    found = {}
    for stage, ops in frame.groupby("stage"):
        total, left = Fraction(0), Fraction(0)
        for op in ops.itertuples():
            macs, share = Fraction(op.m * op.n * op.k * op.count * op.repeat), Fraction(1)
            for pattern, axis in ((op.a_pattern, op.a_axis), (op.b_pattern, op.b_axis)):
                if axis == "k":
                    share *= Fraction(Pattern.parse(pattern).kept(op.k), op.k)
            total, left = total + macs, left + macs * share
        found[str(stage)] = left / total
    return found


FF_ONLY, BP_ONLY, BOTH, NONE = ("d", 1, 1), (1, "d", 1), ("d", "d", 1), (1, 1, 1)
COSTS = {
    "dense": NONE, "ste": FF_ONLY, "srste": FF_ONLY, "static": FF_ONLY, "random": FF_ONLY, "asp": FF_ONLY,
    "asp_permuted": FF_ONLY, "mask_decay": FF_ONLY, "mdgf_linear": FF_ONLY, "mdgf_exponential": FF_ONLY,
    "mdgf_cosine": FF_ONLY, "structure_decay": FF_ONLY, "sdgf_stepwise": FF_ONLY, "sdgf_geometric": FF_ONLY,
    "pdp": FF_ONLY, "pdp_channels": FF_ONLY, "powerprop": FF_ONLY, "step": FF_ONLY, "sdgp": BP_ONLY,
    "sdgp_maxnorm": BP_ONLY, "sdgp_random": BP_ONLY, "sdwp": BP_ONLY, "bdwp": BOTH, "bimask": BOTH, "slope": BOTH,
    "transposable": BOTH, "maskllm": NONE, "maskllm_joint": NONE, "oneshot_magnitude": NONE, "oneshot_wanda": NONE,
    "oneshot_sparsegpt": NONE,
}  # fmt: skip
"""FF, BP, WU of the last steps of training, 1 being dense and d = n / m (from the rules of the papers): a mask along in
serves FF, one along out BP, and no recipe here spares WU. Recipes that prune after the last step train dense."""
BY_DENSITY = {"rigl", "srigl", "srigl_fixed"}


def test_the_table_of_costs_has_every_recipe():
    assert {recipe.name for recipe in TRAINED} == COSTS.keys() | BY_DENSITY


@pytest.mark.parametrize("pattern", ["2:4", "1:4", "2:8", "1:8"])
@pytest.mark.parametrize("recipe", COSTS)
def test_cost_of_a_step_by_stage(recipe: str, pattern: str):
    """Two equal products: in the last phase of a run and in the one step that a plan without length has, FF, BP and WU
    cost what the table says; the bound of the speed-up is 3 over their sum, 3/2 for one direction at most."""
    n, m = map(int, pattern.split(":"))
    d = Fraction(n, m)
    table = [d if cost == "d" else Fraction(cost) for cost in COSTS[recipe]]
    expected = dict(zip(("FF", "BP", "WU"), table, strict=True))
    given = "dense" if recipe == "dense" else pattern
    optimizer = "adamw" if get_recipe(recipe).freeze_variance else "sgd_momentum"
    if get_recipe(recipe).adapters:
        # Adapters add dense products of their own, told apart by their layers.
        recipe_without: Any = get_recipe(recipe).with_(adapters=None)
    else:
        recipe_without = recipe
    for steps in (20, None):
        work = net().training(recipe_without, given, steps=steps, optimizer=optimizer, first_input_gradient=True)
        assert shares(work) == expected
    described, density = get_recipe(recipe), n / m
    assert described.stage_shares(density) == pytest.approx({s: float(x) for s, x in expected.items()})
    assert described.speedup_bound(density) == pytest.approx(float(3 / sum(table)))
    assert described.speedup_bound(density) < (3.0 if COSTS[recipe] == BOTH else 1.5)


@pytest.mark.parametrize("recipe", sorted(BY_DENSITY))
def test_cost_of_a_step_by_density(recipe: str):
    """Of two equal layers each keeps a quarter of its weights; FF skips the others (16 of 64 in every row with a
    constant fan-in), BP has the same weight, and WU is dense. The bound counts what a machine that gathers can leave
    out: 1/4 of FF and BP, and of WU in 3 steps of 4, the fourth being dense: 7/16. 3 / (1/4 + 1/4 + 7/16) = 3.2."""
    asked = get_recipe(recipe).with_(growth={"every": 4})
    work = net().training(asked, "unstructured:0.25", steps=20, first_input_gradient=True)
    assert shares(work) == {"FF": Fraction(1, 4), "BP": Fraction(1), "WU": Fraction(1)}
    assert asked.stage_shares(0.25) == {"FF": 0.25, "BP": 0.25, "WU": 7 / 16}
    assert asked.speedup_bound(0.25) == pytest.approx(3.2)
    frame = work.to_frame()
    weights = frame[frame["stage"].isin(["FF", "BP"])]["b_pattern"]
    assert set(weights) == {"unstructured:0.25" if recipe == "rigl" else "fan-in:16"}


@pytest.mark.parametrize("recipe", ["rigl", "srigl_fixed"])
def test_a_machine_that_gathers_skips_in_both_passes(recipe: str):
    """On a processor with kernels that take kept weights one by one, 2 % of a layer of 2048 x 2048 are all that FF and
    BP multiply; WU is dense."""
    layers = "\n  - {type: linear, name: a, in: 2048, out: 2048}"
    asked = {"base": recipe, "growth": {"every": 4}}
    work = net(layers).training(asked, "unstructured:0.02", steps=20, first_input_gradient=True)
    result = simulate(load_arch("epyc_zen4_2core"), work)
    executed = {
        stage: Fraction(float(result.columns["macs_executed"][rows][0])) / (64 * 2048 * 2048)
        for stage in ("FF", "BP", "WU")
        if (rows := work.gemms & work.is_stage(stage)).any()
    }
    assert executed["WU"] == 1
    assert float(executed["FF"]) == pytest.approx(0.02, rel=0.03)  # a fan-in is a whole number: 40 of 2048
    assert executed["BP"] == executed["FF"]


@pytest.mark.parametrize(
    ("asked", "pattern", "expected"),
    [
        ("sdgf_geometric", "1:4", [Fraction(1, 4)] * 4),
        ("sdgf_stepwise", "1:8", [Fraction(7, 8), Fraction(1, 2), Fraction(1, 4), Fraction(1, 8)]),
        ("structure_decay", "1:8", [1, Fraction(7, 8), Fraction(1, 4), Fraction(1, 8)]),
        ("mask_decay", "1:4", [1, 1, Fraction(1, 4)]),
        ("mdgf_exponential", "1:4", [1, Fraction(1, 4)]),
        ("pdp", "2:4", [1, 1, Fraction(1, 2)]),
        ("asp", "2:4", [1, Fraction(1, 2)]),
        ("maskllm", "2:4", [1, 1]),
        ({"base": "maskllm", "soft": {"end": 0.75}}, "2:4", [1, 1, Fraction(1, 2)]),
    ],
)
def test_forward_products_follow_the_spans(asked: Any, pattern: str, expected: list[Fraction | int]):
    """Phase by phase FF costs the density of its pattern: dense before the start and while weights fade, from there on
    n / m of the frame."""
    work = net().training(asked, pattern, steps=20)
    assert [shares(work, phase)["FF"] for phase in range(len(work.phases))] == expected
    assert [shares(work, phase)["WU"] for phase in range(len(work.phases))] == [1] * len(expected)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([r.name for r in TRAINED if r.structure or (r.soft and r.soft.kind == "decay")]),
    st.sampled_from(["1:4", "2:4", "1:8"]), st.integers(1, 40), st.integers(0, 20).map(lambda n: n / 20),
    st.integers(0, 20).map(lambda n: n / 20),
)  # fmt: skip
def test_forward_macs_of_a_run_are_the_sum_over_its_spans(
    recipe: str, pattern: str, steps: int, start: float, end: float
):
    """The multiply-accumulates of FF that are left are those of a dense step times the sum over all steps of the
    density in force, which is 1 while beta is above 0."""
    assume(start <= end)
    described = get_recipe(recipe)
    part = {"structure": {"end": end}} if described.structure else {"soft": {"end": end}}
    asked = described.with_(start=start, **part)
    line = Timeline.of(asked, Pattern.parse(pattern), steps)
    work = net().training(asked, pattern, steps=steps)
    left = Fraction(0)
    for i, phase in enumerate(work.phases):
        left += shares(work, i)["FF"] * phase.steps
    spans = [line.at(step) for step in range(steps)]
    assert left == sum(Fraction(s.pattern.n, s.pattern.m) if s.is_sparse else Fraction(1) for s in spans)
    for step, span in enumerate(spans):
        assert span.is_sparse == (span.prunes and line.beta(step) == 0.0)


@settings(max_examples=200, deadline=None)
@given(
    refresh=st.integers(0, 9), start=st.integers(0, 20), steps=st.integers(1, 40),
    kind=st.sampled_from(["", "stepwise", "geometric", "decay"]), end=st.integers(0, 40),
)  # fmt: skip
def test_searches_of_a_span_are_those_of_its_steps(refresh: int, start: int, steps: int, kind: str, end: int):
    """Walked step by step: a search at the first step with masks, at one with another pattern than the step before,
    and at each multiple of `refresh` steps after the start; none of a mask found before training and never renewed."""
    assume(start <= min(end, steps))
    parts: dict[str, Any] = {"soft": {"kind": "decay", "end": end}} if kind == "decay" else {}
    if kind in ("stepwise", "geometric"):
        parts = {"structure": {"kind": kind, "end": end}}
    prune = Prune(stage="FF", operand="weight", direction="in", refresh=refresh)
    recipe = Recipe(name="r", prunes=(prune,), start=start).with_(**parts)
    line = Timeline.of(recipe, Pattern.nm(1, 4), steps)
    for span in line.spans:
        walked = int(not span.steps and line.start == steps)  # found after the last step
        for step in range(span.first_step, span.first_step + span.steps):
            if not span.prunes or (refresh == 0 and step == 0):
                continue
            new = step == line.start or span.pattern != line.at(step - 1).pattern
            walked += new or (refresh > 0 and (step - line.start) % refresh == 0)
        if span.prunes:
            assert recipe_ops.searches(prune, recipe, line, span) == walked


def test_updates_of_a_growing_mask():
    """Every 4 steps of 20 up to 75 %: after steps 4, 8 and 12, not after 15; from step 3 on after 7 and 11, and the
    first mask is searched there."""
    growth = Growth(every=4)
    recipe = get_recipe("rigl").with_(growth={"every": 4})
    for start, expected in ((0, [4, 8, 12]), (3, [7, 11])):
        line = Timeline.of(recipe.starting_at(start), Pattern.unstructured(0.5), 20)
        assert list(updates(growth, line.start, line.steps)) == expected
        (prune,) = recipe.prunes
        searched = sum(recipe_ops.searches(prune, recipe, line, span) for span in line.spans)
        assert searched == len(expected) + (start > 0)


def vector(work: Workload, kind: str, phase: str) -> list[tuple[Any, ...]]:
    frame = work.to_frame()
    at = [p.name for p in work.phases].index(phase)
    picked = frame[(frame["kind"] == kind) & (frame["phase"] == at)]
    columns = ["layer", "n", "ops_per_element", "a_elements", "b_elements", "c_elements", "repeat"]
    return [tuple(row) for row in picked[columns].itertuples(index=False, name=None)]


def test_ops_of_a_learned_choice():
    """2:4 has C = 6 candidates for each group of 4: 1.5 logits a weight. A soft mask is 5 C for the softmax, 2 C 4 for
    the sum of candidates and 4 products: 82 a group, 20.5 a weight; backward 4 + 2 C 4 + 5 C + 8 = 90, 22.5 a weight.
    Only the logits are updated, the bias is not."""
    work = net("\n  - {type: linear, name: a, in: 64, out: 64}").training("maskllm", "2:4", steps=20)
    weight, logits = 64 * 64, 64 * 64 * 6 // 4
    assert vector(work, "choice_mask", "soft") == [("a", weight, 20.5, weight, logits, weight, 10)]
    (gradient,) = vector(work, "choice_gradient", "soft")
    assert gradient == ("a", weight, 22.5, weight, weight, logits, 10)
    updates = work.to_frame().query("kind == 'optimizer'")
    assert list(updates["m"]) == [weight + 64, logits]


def test_ops_of_soft_weights_and_powers():
    """Of the 10 soft steps of mask decay one op makes W (m + (1 - m) beta); PDP has 7 for its sigmoid; a power is 3 in
    every step from the first on; rounding to 8 bits 3. 4096 weights each."""
    one = "\n  - {type: linear, name: a, in: 64, out: 64}"
    size = 64 * 64
    decay = net(one).training("mask_decay", "2:4", steps=20)
    assert vector(decay, "soft_mask", "soft") == [("a", size, 1.0, size, 0, size, 10)]
    assert vector(decay, "soft_mask", "sparse") == []
    pdp = net(one).training("pdp", "2:4", steps=20)
    assert vector(pdp, "sigmoid_mask", "soft") == [("a", size, 7.0, size, 0, size, 14)]
    power = net(one).training("powerprop", "2:4", steps=20)
    assert vector(power, "power", "dense") == [("a", size, 3.0, size, 0, size, 12)]
    assert vector(power, "power", "sparse") == [("a", size, 3.0, size, 0, size, 8)]
    rounded = net(one).training({"base": "srste", "quantize": {"format": "int8"}}, "2:4", steps=20)
    assert [row[:3] for row in vector(rounded, "quantize", "train")] == [("a", size, 3.0)]


def test_rescaling_a_pruned_gradient():
    """2 samples of 4 x 4 positions and 8 channels: 256 elements, each added twice as |dy| (4) and multiplied (1), in 20
    steps, of the convolution alone; without `rescale` there is no such op."""
    layers = """
  - {type: conv, name: c, in: 8, out: 8, kernel: 3, padding: 1, input: 4}
  - {type: linear, name: a, in: 8, out: 8}"""
    work = net(layers).training("sdgp_maxnorm", "2:4", steps=20, first_input_gradient=True)
    assert vector(work, "rescale", "train") == [("c", 256, 5.0, 256, 0, 256, 20)]
    plain = net(layers).training("sdgp", "2:4", steps=20, first_input_gradient=True)
    assert vector(plain, "rescale", "train") == []


@pytest.mark.parametrize(
    ("recipe", "phase", "extra"),
    [
        ("ste", "train", 0), ("srste", "train", 3), ("static", "train", 1), ("bdwp", "train", 3), ("sdgp", "train", 0),
        ("asp", "dense", 0), ("asp", "sparse", 1), ("pdp", "dense", 0), ("pdp", "soft", 6), ("pdp", "sparse", 1),
        ("mask_decay", "soft", 1), ("mdgf_linear", "soft", 0), ("powerprop", "dense", 3), ("powerprop", "sparse", 4),
        ("maskllm_joint", "soft", 1),
    ],
)  # fmt: skip
def test_arithmetic_added_to_the_update(recipe: str, phase: str, extra: int):
    """For each pruned weight: select, multiply and add for the decay of SR-STE; a select for a masked gradient; six
    for PDP's derivative; three for that of a power."""
    one = "\n  - {type: linear, name: a, in: 64, out: 64, bias: false}"
    work = net(one).training(recipe, "2:4", steps=20)
    frame, at = work.to_frame(), [p.name for p in work.phases].index(phase)
    (update,) = frame[(frame["kind"] == "optimizer") & (frame["phase"] == at)].itertuples()
    logits = 64 * 64 * 6 // 4 if recipe == "maskllm_joint" else 0
    assert update.m == 64 * 64 + logits
    assert update.ops_per_element * update.m == pytest.approx(6 * update.m + extra * 64 * 64)


def test_a_fan_in_of_a_convolution_keeps_as_much_in_both_passes():
    """16 channels at 9 positions are rows of 144 inputs, of which a tenth is 14; from step 100 on the run found 18, an
    eighth. As much is left of the weight in BP, whose axis n has but 16 of the 144."""
    one = "\n  - {type: conv, name: c, in: 16, out: 16, kernel: 3, padding: 1, input: 4}"
    work = net(one).training({"base": "srigl", "distribution": "uniform"}, "unstructured:0.1", steps=400,
                             first_input_gradient=True, found=[(100, "c", "fan-in:18")])  # fmt: skip
    rows = work.gemms & work.is_stage("FF", "BP")
    assert work.row_lengths("b")[rows].tolist() == [144.0] * 4
    result = simulate(load_arch("epyc_zen4_2core"), work)
    left = result.columns["macs_useful"][rows] / result.macs_dense_per_op()[rows]
    assert left.tolist() == pytest.approx([14 / 144, 14 / 144, 1 / 8, 1 / 8])


SERVED = """
  - {type: conv, name: stem, in: 3, out: 16, kernel: 3, padding: 1, input: 4}
  - {type: conv, name: depthwise, in: 16, out: 16, kernel: 3, padding: 1, input: 4, groups: 16}
  - {type: conv, name: conv, in: 16, out: 16, kernel: 3, padding: 1, input: 4}
  - {type: linear, name: narrow, in: 6, out: 16}
  - {type: linear, name: plain, in: 16, out: 16}
  - {type: linear, name: head, in: 16, out: 10}"""
KEEP = "{plain: kept by hand}"


def notes(work: Workload, stage: str) -> dict[str, tuple[str, str, str]]:
    """Of the products of a stage in the last phase: both patterns and the note."""
    frame = work.to_frame()
    last = frame[(frame["kind"] == "gemm") & (frame["stage"] == stage) & (frame["phase"] == len(work.phases) - 1)]
    columns = ["layer", "a_pattern", "b_pattern", "note"]
    return {layer: (a, b, note) for layer, a, b, note in last[columns].itertuples(index=False, name=None)}


@pytest.mark.parametrize("recipe", sorted(name for name in COSTS if name != "dense" and "d" in COSTS[name]))
def test_layers_that_cannot_be_served_stay_dense_and_say_why(recipe: str):
    """4 divides neither the 3 inputs of the stem, the 1 of a depth-wise channel, the 6 of narrow nor the 10 outputs of
    head; `plain` is dense by its file. A stage that the recipe prunes says so, and prunes the others."""
    optimizer = "adamw" if get_recipe(recipe).freeze_variance else "sgd_momentum"
    work = net(SERVED, KEEP).training(recipe, "2:4", steps=200, optimizer=optimizer, first_input_gradient=True)
    square = recipe == "transposable"
    tells = {
        "FF": {
            "stem": "4 does not divide 3 input channels",
            "depthwise": "4 does not divide 1 input channel per group",
            "narrow": "4 does not divide 6 input channels",
            "plain": "kept by hand",
            "conv": "",
            "head": "4 does not divide 10 output channels" if square else "",
        },
        "BP": {
            "stem": "4 does not divide 3 input channels" if square else "",
            "depthwise": f"4 does not divide 1 {'input' if square else 'output'} channel per group",
            "narrow": "4 does not divide 6 input channels" if square else "",
            "plain": "kept by hand",
            "conv": "",
            "head": "4 does not divide 10 output channels",
        },
    }
    for stage, cost in zip(("FF", "BP"), COSTS[recipe], strict=False):
        if cost == "d":
            found = notes(work, stage)
            assert {layer: found[layer][2] for layer in tells[stage]} == tells[stage]
            for layer, why in tells[stage].items():
                assert (found[layer][:2] == ("dense", "dense")) == bool(why)
    assert {(a, b) for a, b, _ in notes(work, "WU").values()} == {("dense", "dense")}


def test_adapters_are_on_pruned_linear_layers_only():
    """Of all layers only `head` is linear and pruned in FF: its adapter has rank 4, in the last 1 % of steps."""
    work = net(SERVED, KEEP).training("slope", "2:4", steps=200)
    frame = work.to_frame()
    adapters = frame[frame["layer"].str.contains("adapter")]
    gemms = adapters[adapters["kind"] == "gemm"]
    assert set(adapters["layer"]) == {"head.adapter.down", "head.adapter.up"}
    assert set(adapters["phase"]) == {len(work.phases) - 1}
    assert set(gemms["repeat"]) == {2}
    tokens = 64
    expected = {
        ("head.adapter.down", "FF", tokens, 4, 16), ("head.adapter.up", "FF", tokens, 10, 4),
        ("head.adapter.down", "BP", tokens, 16, 4), ("head.adapter.up", "BP", tokens, 4, 10),
        ("head.adapter.down", "WU", 16, 4, tokens), ("head.adapter.up", "WU", 4, 10, tokens),
    }  # fmt: skip
    assert set(gemms[["layer", "stage", "m", "n", "k"]].itertuples(index=False, name=None)) == expected


def test_a_frozen_variance_needs_adam():
    with pytest.raises(UnsupportedError, match="'step' freezes Adam's variance; 'sgd_momentum' has none"):
        net().training("step", "2:4", steps=20)


def test_elements_that_a_mask_keeps():
    """3 rows of 10: 2:4 keeps 2 + 2 + 2 of each, a fan-in of 4 four; 0.1 of all 30 is 3, though no row has 1/3."""
    assert recipe_ops.kept_elements(Pattern.nm(2, 4), 3, 10) == 18
    assert recipe_ops.kept_elements(Pattern.fan_in(4), 3, 10) == 12
    assert recipe_ops.kept_elements(Pattern.unstructured(0.1), 3, 10) == 3
