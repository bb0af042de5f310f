"""Training expansion: costs by recipe, dense rules, mask and update ops."""

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmsim.errors import PatternError, ShapeError, UnsupportedError
from nmsim.library import names
from nmsim.sparsity.parts import Prune
from nmsim.sparsity.pattern import Pattern
from nmsim.sparsity.recipe import Recipe
from nmsim.specfile import read_text, validate
from nmsim.workloads.load import load_workload
from nmsim.workloads.model import Model
from nmsim.workloads.modelfile import ModelFile
from nmsim.workloads.optable import Phase, Workload

MLP = """
  - {type: linear, name: a, in: 16, out: 32, then: [relu]}
  - {type: linear, name: b, in: 32, out: 16, bias: false}
"""


def net(layers: str, keep: str = "{}", batch: int = 2) -> Workload:
    head = "kind: workload\nname: net\nsource: test\nsequence: {tokens: {length: 10}}"
    text = f"{head}\nkeep_dense: {keep}\nlayers:\n{layers}"
    return Model.build(validate(ModelFile, read_text(text)), batch=batch).forward()


def skippable_macs(work: Workload) -> Fraction:
    """Multiply-accumulates with the zeros skipped whose groups run along k."""
    frame = work.to_frame()
    total = Fraction(0)
    for op in frame[frame["kind"] == "gemm"].itertuples():
        share = Fraction(1)
        for pattern, axis in ((op.a_pattern, op.a_axis), (op.b_pattern, op.b_axis)):
            if axis == "k":
                share *= Fraction(Pattern.parse(pattern).kept(op.k), op.k)
        total += op.m * op.n * op.k * op.count * op.repeat * share
    return total


def rows(work: Workload, stage: str, *columns: str) -> list[tuple]:
    picked = work.select(work.is_stage(stage)).to_frame()
    return list(picked[list(columns)].itertuples(index=False, name=None))


@settings(max_examples=40, deadline=None)
@given(
    pattern=st.sampled_from(["1:4", "2:4", "4:8", "2:8", "1:8", "2:16", "3:16"]),
    widths=st.lists(st.integers(1, 4), min_size=2, max_size=4),
    recipe=st.sampled_from(["dense", "srste", "sdgp", "sdwp", "bdwp"]),
)
def test_cost_laws(pattern, widths, recipe):
    """With d = n/m and equal products, one sparse stage of three costs (2 + d)/3 and two cost (1 + 2d)/3 of dense."""
    sizes = [f"in: {16 * a}, out: {16 * b}" for a, b in pairwise(widths)]
    work = net("\n".join(f"  - {{type: linear, name: l{i}, {size}}}" for i, size in enumerate(sizes)))
    dense = work.training(first_input_gradient=True)
    sparse = work.training(recipe, "dense" if recipe == "dense" else pattern, first_input_gradient=True)
    n, m = map(int, pattern.split(":"))
    d = Fraction(n, m)
    share = {"dense": Fraction(1), "bdwp": (1 + 2 * d) / 3}.get(recipe, (2 + d) / 3)
    assert dense.macs_dense == sparse.macs_dense == 3 * work.macs_dense
    assert skippable_macs(sparse) == share * dense.macs_dense


def test_patterns_by_recipe():
    """Which operand of FF and BP is sparse, and along which axis its groups run; WU is always dense."""
    columns = ("a_pattern", "a_axis", "b_pattern", "b_axis")
    none, on_b, on_a = ("dense", "", "dense", ""), ("dense", "", "2:4", "k"), ("2:4", "k", "dense", "")
    expected = {
        "srste": (on_b, ("dense", "", "2:4", "n")),
        "static": (on_b, ("dense", "", "2:4", "n")),
        "sdgp": (none, on_a),
        "sdwp": (none, on_b),
        "bdwp": (on_b, on_b),
    }
    for recipe, (forward, backward) in expected.items():
        step = net(MLP).training(recipe, "2:4", first_input_gradient=True)
        assert rows(step, "FF", *columns) == [forward] * 2, recipe
        assert rows(step, "BP", *columns) == [backward] * 2, recipe
        assert rows(step, "WU", *columns) == [none] * 2, recipe


def test_order_of_a_step():
    """Forward; then from the last layer: operations on the output, BP, WU; then updates, each with its masks."""
    step = net(MLP).training("bdwp", "2:4")
    order = step.to_frame()[["layer", "stage", "kind"]].itertuples(index=False, name=None)
    assert list(order) == [
        ("a", "FF", "gemm"),
        ("a.relu", "VECTOR", "relu"),
        ("b", "FF", "gemm"),
        ("b", "BP", "gemm"),
        ("b", "WU", "gemm"),
        ("a.relu", "VECTOR", "relu_backward"),
        ("a", "WU", "gemm"),
        *[("a", "UPDATE", "optimizer"), ("a", "UPDATE", "cast")],
        *[("a", "PRUNE", "prune")] * 2,
        *[("b", "UPDATE", "optimizer"), ("b", "UPDATE", "cast")],
        *[("b", "PRUNE", "prune")] * 2,
    ]


def test_first_product_behind_an_embedding_has_an_input_gradient():
    """The embedding learns from it; only layers with nothing learned before them go without."""
    step = net("""
  - {type: embedding, name: e, vocabulary: 9, dim: 16}
  - {type: linear, name: a, in: 16, out: 16}""").training()
    assert rows(step, "BP", "layer") == [("a",)]


def test_leading_layers_that_learn_nothing_have_no_backward():
    step = net("""
  - {type: maxpool, name: p, channels: 3, input: 8, kernel: 2}
  - {type: conv, name: c, in: 3, out: 8, kernel: 3, input: 4}""").training()
    assert [kind for (kind,) in rows(step, "VECTOR", "kind")] == ["maxpool"]
    assert rows(step, "BP", "layer") == []


DENSE_RULES = """
  - {type: conv, name: stem, in: 16, out: 32, kernel: 3, padding: 1, input: 4}
  - {type: conv, name: depthwise, in: 32, out: 32, kernel: 3, padding: 1, input: 4, groups: 32}
  - {type: conv, name: grouped, in: 32, out: 32, kernel: 3, padding: 1, input: 4, groups: 2}
  - {type: attention, name: att, heads: 2, head_dim: 16}
  - {type: linear, name: fc, in: 32, out: 10}"""


def test_notes_say_why_an_op_is_dense():
    """Each stage by itself: fc's 32 inputs divide by 8, its 10 outputs do not. Notes only where the recipe prunes."""
    work = net(DENSE_RULES, keep="{st*: first layer}")
    step = work.training("bdwp", "2:8", first_input_gradient=True)
    one = "8 does not divide 1 {} channel per group"
    assert rows(step, "FF", "layer", "b_pattern", "note") == [
        ("stem", "dense", "first layer"),
        ("depthwise", "dense", one.format("input")),
        ("grouped", "2:8", ""),
        ("att.qk", "dense", "no weight"),
        ("att.pv", "dense", "no weight"),
        ("fc", "2:8", ""),
    ]
    backward = {(layer, pattern, note) for layer, pattern, note in rows(step, "BP", "layer", "b_pattern", "note")}
    assert backward == {
        ("fc", "dense", "8 does not divide 10 output channels"),
        ("att.qk", "dense", "no weight"),
        ("att.pv", "dense", "no weight"),
        ("grouped", "2:8", ""),
        ("depthwise", "dense", one.format("output")),
        ("stem", "dense", "first layer"),
    }
    assert {note for (note,) in rows(step, "WU", "note")} == {""}
    assert {note for (note,) in rows(work.training("sdwp", "2:8"), "FF", "note")} == {""}


def test_user_keeps_layers_dense():
    step = net(MLP, keep="{a: first layer}").training("bdwp", "2:4", keep_dense=["*"])
    assert rows(step, "FF", "layer", "note") == [("a", "first layer"), ("b", "kept dense by the user")]
    assert rows(step, "PRUNE", "layer") == []
    with pytest.raises(UnsupportedError, match="no layer matches 'c'"):
        net(MLP).training("bdwp", "2:4", keep_dense="c")


def test_other_patterns():
    """Fan-in must not keep more than a row has; an unstructured share fits any layer, one channel per group too."""
    fan_in = net(MLP).training("srste", "fan-in:20")
    assert rows(fan_in, "FF", "b_pattern", "note") == [
        ("dense", "a row has 16 elements, fewer than the 20 kept"),
        ("fan-in:20", ""),
    ]
    free = net(DENSE_RULES).training("srste", "unstructured:0.1")
    assert rows(free, "FF", "b_pattern")[1] == ("unstructured:0.1",)
    assert rows(free, "PRUNE", "m", "n", "c_elements")[0] == (32, 144, 461)  # 0.1 · 32 · 16 · 9 = 460.8


def test_weight_masks():
    """BDWP searches 32 rows of 16 inputs and 16 rows of 32 outputs of layer a; 2:8 keeps a quarter."""
    step = net(MLP).training("bdwp", "2:8", dtype="bf16")
    columns = ("layer", "note", "m", "n", "a_elements", "c_elements", "a_pattern", "a_role", "a_dtype", "repeat")
    assert rows(step, "PRUNE", *columns) == [
        ("a", "mask for FF", 32, 16, 512, 128, "2:8", "weight", "bf16", 1),
        ("a", "mask for BP", 16, 32, 512, 128, "2:8", "weight", "bf16", 1),
        ("b", "mask for FF", 16, 32, 512, 128, "2:8", "weight", "bf16", 1),
        ("b", "mask for BP", 32, 16, 512, 128, "2:8", "weight", "bf16", 1),
    ]


def test_gradient_masks():
    """SDGP prunes dy, 20 tokens of 16 outputs, right before the input-gradient product that uses it."""
    step = net(MLP).training("sdgp", "2:8")
    assert rows(step, "PRUNE", "layer", "m", "n", "a_elements", "c_elements", "a_role") == [
        ("b", 20, 16, 320, 80, "gradient")
    ]
    stages = [stage for (stage,) in step.to_frame()[["stage"]].itertuples(index=False, name=None)]
    assert stages[stages.index("PRUNE") + 1] == "BP"


def test_refresh_period():
    """In 100 steps a mask renewed every 30 is searched at steps 0, 30, 60 and 90; in 10 once; a given one never."""
    slow = Recipe(name="slow", prunes=(Prune(stage="FF", operand="weight", direction="in", refresh=30),))
    assert {r for (r,) in rows(net(MLP).training(slow, "2:4", steps=100), "PRUNE", "repeat")} == {4}
    assert {r for (r,) in rows(net(MLP).training(slow, "2:4", steps=10), "PRUNE", "repeat")} == {1}
    assert rows(net(MLP).training("static", "2:4", steps=100), "PRUNE", "repeat") == []


def test_update():
    """Layer a has 16·32 + 32 parameters. Momentum reads and writes master and momentum: twice that.

    Six operations each, and SR-STE's decay adds three on each of the 512 weights of 544 parameters.
    The FP16 copy is written in the same pass.
    """
    step = net(MLP).training("bdwp", "2:4")
    columns = ("kind", "m", "n", "a_elements", "b_elements", "c_elements", "b_dtype", "c_dtype")
    assert rows(step, "UPDATE", *columns)[:2] == [
        ("optimizer", 544, 1, 544, 1088, 1088, "fp32", "fp32"),
        ("cast", 544, 1, 0, 0, 544, "fp16", "fp16"),
    ]
    cost = [ops for (ops,) in rows(step, "UPDATE", "ops_per_element")]
    assert cost == pytest.approx([6 + 3 * 512 / 544, 1, 6 + 3, 1], rel=1e-12)
    masked = net(MLP).training("static", "2:4")
    assert rows(masked, "UPDATE", "ops_per_element")[2] == (7.0,)


@pytest.mark.parametrize(("optimizer", "state"), [("sgd", 1), ("sgd_momentum", 2), ("adam", 3), ("adamw", 3)])
def test_optimizer_state(optimizer, state):
    """Master weight; with momentum; with two moments. FP32 training needs no rounded copy."""
    step = net(MLP).training(optimizer=optimizer, dtype="fp32")
    assert rows(step, "UPDATE", "kind", "b_elements") == [("optimizer", 544 * state), ("optimizer", 512 * state)]


def test_norms_and_embeddings_are_updated():
    """Scale and shift of 4, a table of 9·4, and a learned array of 5."""
    step = net("""
  - {type: embedding, name: e, vocabulary: 9, dim: 4}
  - {type: layernorm, name: l, dim: 4}
  - {type: parameter, name: p, elements: 5}""").training(dtype="fp32")
    assert rows(step, "UPDATE", "layer", "m") == [("e", 36), ("l", 8), ("p", 5)]


def test_steps():
    """A run of many steps is the same table, every op repeated."""
    step, run = net(MLP).training("bdwp", "2:4"), net(MLP).training("bdwp", "2:4", steps=100_000)
    assert len(step) == len(run)
    assert set(run["repeat"]) == {100_000}
    assert run.macs_dense == 100_000 * step.macs_dense
    assert run.phases == (Phase("train", 0, 100_000),)


def test_inference():
    """Forward ops only, with weights pruned beforehand; a dense pattern is the plain forward pass."""
    work = net(MLP)
    assert set(work.inference("2:4").to_frame()["stage"]) == {"FF", "VECTOR"}
    assert rows(work.inference("2:4"), "FF", "b_pattern", "b_axis") == [("2:4", "k")] * 2
    assert rows(work.inference("dense"), "FF", "b_pattern", "note") == [("dense", "")] * 2


def test_info():
    info = net(MLP).training("srste", "2:4", steps=7).info
    assert info["model"] == "net"
    assert (info["recipe"], info["pattern"], info["batch"], info["steps"]) == ("srste", "2:4", 2, 7)
    assert (info["dtype"], info["optimizer"], info["streams"]) == ("fp16", "sgd_momentum", {"tokens": 10})


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"recipe": "bdwp"}, PatternError, "recipe 'bdwp' needs a pattern"),
        ({"recipe": "bdwp", "pattern": "4:4"}, PatternError, "needs a pattern"),
        ({"pattern": "2:4"}, PatternError, "recipe 'dense' takes no pattern, but 2:4 was given"),
        ({"recipe": "bdpw", "pattern": "2:4"}, UnsupportedError, "did you mean bdwp"),
        ({"optimizer": "adma"}, UnsupportedError, "did you mean adam"),
        ({"dtype": "fp61"}, UnsupportedError, "unknown dtype 'fp61'"),
        ({"master_dtype": "fp23"}, UnsupportedError, "unknown dtype 'fp23'"),
        ({"steps": 0}, ShapeError, "steps must be a whole number of at least 1"),
        ({"steps": 1.5}, ShapeError, "steps must be a whole number"),
        (
            {
                "recipe": {"base": "ste", "prunes": [{"stage": "WU", "operand": "weight", "direction": "in"}]},
                "pattern": "2:4",
            },
            UnsupportedError,
            "WU has no weight",
        ),
    ],
)
def test_mistakes(arguments, error, message):
    with pytest.raises(error, match=message):
        net(MLP).training(**arguments)


# GMAC per image: dense, SR-STE 2:4, BDWP 2:4, SDGP 2:8, BDWP 2:8, BDWP 2:16, inference 2:8. Counted independently
# from layer lists, to four significant figures: first convolution, classifier and attention products dense, no BP
# of the first layer.
COUNTED = {
    "resnet9": (3.482, 2.902, 2.323, 2.613, 1.744, 1.455, 0.293),
    "vgg19": (1.193, 0.995, 0.796, 0.896, 0.598, 0.499, 0.101),
    "vit_cifar": (1.921, 1.615, 1.308, 1.461, 1.001, 0.848, 0.181),
    "vit_cifar_384": (1.278, 1.077, 0.876, 0.976, 0.674, 0.574, 0.125),
    "resnet18_64_s3": (6.658, 5.551, 4.444, 4.997, 3.336, 2.783, 0.561),
    "resnet18_64_s7": (0.435, 0.366, 0.296, 0.331, 0.227, 0.193, 0.044),
    "resnet50": (12.150, 10.165, 8.180, 9.173, 6.196, 5.204, 1.112),
}
RUNS = (
    ("dense", "dense"), ("srste", "2:4"), ("bdwp", "2:4"), ("sdgp", "2:8"), ("bdwp", "2:8"), ("bdwp", "2:16"),
    ("inference", "2:8"),
)  # fmt: skip


@pytest.mark.parametrize("name", COUNTED)
def test_training_macs_of_named_models(name):
    """The tolerance is the rounding of the figures: half of the third decimal, 0.0005 GMAC."""
    if name not in names("workloads"):
        pytest.skip(f"{name} is not in the library")
    work = load_workload(name)
    counted = [float(skippable_macs(work.training(recipe, pattern))) / 1e9 for recipe, pattern in RUNS]
    assert counted == pytest.approx(COUNTED[name], abs=5.1e-4)
