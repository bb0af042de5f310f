"""Recipes at work: what each does to the weights and gradients of a layer, when masks are searched, what is counted."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmsim.errors import ShapeError, UnsupportedError
from nmsim.sparsity.mask import magnitude_mask
from nmsim.sparsity.parts import Prune
from nmsim.sparsity.pattern import Pattern
from nmsim.sparsity.recipe import Recipe, get_recipe
from nmsim.sparsity.stats import both_kept_probability, overlap
from nmsim.specfile import read_text, validate
from nmsim.train.layers.base import Run
from nmsim.train.layers.conv import Conv2d
from nmsim.train.layers.linear import Linear
from nmsim.train.products import Products
from nmsim.train.recipes.execution import Execution
from nmsim.train.recipes.statistics import Change, changes
from nmsim.workloads.model import Model
from nmsim.workloads.modelfile import ModelFile
from nmsim.workloads.optable import Phase
from nmsim.workloads.pruning import mask_search

BOTH = get_recipe("sdwp").prunes + get_recipe("sdgp").prunes
INPUTS = Prune(stage="FF", operand="activation", direction="in")
TRAINING = ("ste", "srste", "sdgp", "sdgp_maxnorm", "sdwp", "bdwp", "static", "asp")
SHAPES = st.one_of(
    st.tuples(st.integers(1, 4).map(lambda x: 16 * x), st.integers(1, 4).map(lambda x: 16 * x)),
    st.tuples(st.just(3), st.just(3), st.integers(1, 2).map(lambda x: 16 * x), st.integers(1, 3).map(lambda x: 16 * x)),
)
PATTERNS = st.sampled_from(["1:4", "2:4", "2:8", "4:8", "1:16", "3:16"])


class Heard(list):
    """A listener that keeps what it hears."""

    def op(self, layer, stage, kind="gemm", **values):
        self.append((layer, stage, kind, values))

    def of(self, stage):
        return [values | {"layer": layer} for layer, heard, _, values in self if heard == stage]


def execution(recipe, pattern="2:4", **more):
    """The recipe on layer x, `asp` from the first step on."""
    recipe = get_recipe("asp").starting_at(0) if recipe == "asp" else recipe
    return Execution(recipe, pattern, {"x": ("FF", "BP")}, **more)


def weights(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def kept(array, m, axis):
    """Non-zeros of each group of m along an axis."""
    moved = np.moveaxis(array, axis, -1)
    return np.count_nonzero(moved.reshape(*moved.shape[:-1], -1, m), axis=-1)


@settings(max_examples=40, deadline=None)
@given(SHAPES, PATTERNS, st.sampled_from(["ste", "srste", "bdwp", "static", "asp"]), st.integers(0, 2**32))
def test_forward_weight_has_the_pattern_along_in(shape, text, recipe, seed):
    """Exactly n of each m input channels at one kernel position survive, with their values."""
    pattern, weight = Pattern.parse(text), weights(shape, seed)
    dense = weight.copy()
    used, stated = execution(recipe, text).forward_weight("x", weight)
    assert stated == pattern
    assert (kept(used, pattern.m, -2) == pattern.n).all()
    np.testing.assert_array_equal(used, np.where(used != 0, dense, 0))


@settings(max_examples=40, deadline=None)
@given(SHAPES, PATTERNS, st.sampled_from(["bdwp", "sdwp"]), st.integers(0, 2**32))
def test_backward_weight_of_its_own_has_the_pattern_along_out(shape, text, recipe, seed):
    pattern, weight = Pattern.parse(text), weights(shape, seed)
    run = execution(recipe, text)
    run.forward_weight("x", weight)
    used, stated, axis = run.backward_weight("x", weight)
    assert (stated, axis) == (pattern, -1)
    assert (kept(used, pattern.m, -1) == pattern.n).all()
    np.testing.assert_array_equal(used, weight * magnitude_mask(weight, text, -1))


@settings(max_examples=30, deadline=None)
@given(SHAPES, PATTERNS, st.floats(0, 1), st.integers(0, 2**32))
def test_straight_through_gradient(shape, text, decay, seed):
    """G + decay·(1 - mask)·W, against the formula written with where."""
    weight, gradient = weights(shape, seed), weights(shape, seed + 1)
    mask = magnitude_mask(weight, text, -2)
    expected = np.where(mask, gradient, gradient + decay * weight)
    run = execution(get_recipe("srste").with_(decay=decay), text)
    run.forward_weight("x", weight)
    np.testing.assert_allclose(run.weight_gradient("x", weight, gradient.copy()), expected, rtol=1e-14)


@pytest.mark.parametrize("recipe", ["ste", "srste", "static", "asp"])
def test_backward_uses_the_forward_weight(recipe):
    """Autograd's own input gradient: the weight of FF, whose groups run along in, which BP cannot skip."""
    run, weight = execution(recipe), weights((8, 12))
    forward, _ = run.forward_weight("x", weight)
    backward, pattern, axis = run.backward_weight("x", weight)
    assert backward is forward
    assert (pattern, axis) == (Pattern.parse("2:4"), -2)


@pytest.mark.parametrize("rule", ["masked", "autodiff"])
def test_gradient_of_pruned_weights(rule):
    """Both rules give pruned weights no gradient; `masked` sets them to zero, `autodiff` leaves them."""
    weight, gradient = weights((8, 4)), weights((8, 4), 1)
    dense, mask = weight.copy(), magnitude_mask(weights((8, 4)), "2:4", -2)
    run = execution(Recipe(name="r", prunes=(Prune(stage="FF", operand="weight", direction="in"),), gradient=rule))
    run.forward_weight("x", weight)
    np.testing.assert_array_equal(run.weight_gradient("x", weight, gradient.copy()), gradient * mask)
    np.testing.assert_array_equal(weight, dense * mask if rule == "masked" else dense)


def layer_step(layer, recipe, x, dy, pattern="2:4"):
    run = Run(Products(), execution(recipe, pattern if recipe != "dense" else "dense"))
    y = layer.forward(run, x)
    (dx,) = layer.backward(run, dy, (True,))
    return y, dx, layer.weight.grad


@pytest.mark.parametrize("recipe", ["sdgp", "sdgp_maxnorm", "sdwp"])
@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_backward_only_recipes_leave_forward_and_weight_gradient_dense(recipe, kind):
    """SDGP and SDWP change dx alone: y and dW are those of the dense layer, bit by bit."""
    rng = np.random.default_rng(3)
    layer = Linear("x", 8, 12, rng) if kind == "linear" else Conv2d("x", 8, 12, 3, rng, padding=1)
    before = layer.weight.value.copy()
    shape = (5,) if kind == "linear" else (2, 4, 4)
    x, dy = (rng.standard_normal((*shape, c)).astype(np.float32) for c in (8, 12))
    y, dx, dw = layer_step(layer, recipe, x, dy)
    dense_y, dense_dx, dense_dw = layer_step(layer, "dense", x, dy)
    np.testing.assert_array_equal(y, dense_y)
    np.testing.assert_array_equal(dw, dense_dw)
    np.testing.assert_array_equal(layer.weight.value, before)
    assert not np.allclose(dx, dense_dx)


def test_rescaled_gradient():
    """2 samples of 4 positions: after pruning, the L1 norm of each sample and channel that kept anything is what it
    was, short by the share 1e-4 / (after + 1e-4)."""
    gradient = weights((2, 2, 2, 8))
    plain, _ = execution("sdgp").backward_gradient("x", gradient)
    scaled, pattern = execution("sdgp_maxnorm").backward_gradient("x", gradient)
    assert pattern == Pattern.parse("2:4")
    norms = [np.abs(g).sum(axis=(1, 2)) for g in (gradient, plain, scaled)]
    before, after, restored = (n[norms[1] > 0] for n in norms)
    np.testing.assert_allclose(restored, before * after / (after + 1e-4), rtol=1e-12)
    np.testing.assert_array_equal(scaled != 0, plain != 0)


def test_a_gradient_without_positions_is_not_rescaled():
    gradient = weights((6, 8))
    plain, scaled = (execution(r).backward_gradient("x", gradient)[0] for r in ("sdgp", "sdgp_maxnorm"))
    np.testing.assert_array_equal(plain, scaled)


@pytest.mark.parametrize("recipe", TRAINING)
def test_layers_left_dense_are_untouched(recipe):
    """A layer the plan does not name, one pruned in no stage, and every layer before the recipe starts."""
    for run, layer in (
        (execution(recipe), "other"),
        (Execution(recipe, "2:4", {"x": ()}), "x"),
        (execution(get_recipe(recipe).starting_at(5)), "x"),
    ):
        weight, dy, dw = (weights((8, 8), seed) for seed in range(3))
        copies = [array.copy() for array in (weight, dy, dw)]
        assert run.forward_weight(layer, weight) == (weight, None)
        assert run.backward_weight(layer, weight)[:2] == (weight, None)
        assert run.backward_gradient(layer, dy) == (dy, None)
        assert run.weight_gradient(layer, weight, dw) is dw
        for array, copy in zip((weight, dy, dw), copies, strict=True):
            np.testing.assert_array_equal(array, copy)
        assert not run.masks
        assert not run.searches


def both_share(masks, n, m):
    """The share kept in both directions and its standard error, from m x m tiles, which are independent."""
    both = masks["x", "FF"] & masks["x", "BP"]
    rows, columns = both.shape
    tiles = both.reshape(rows // m, m, columns // m, m).mean(axis=(1, 3))
    return both.mean(), tiles.std() / np.sqrt(tiles.size)


@pytest.mark.parametrize(("text", "exact"), [("2:4", 13 / 35), ("2:8", 0.1692), ("1:4", 1 / 7)])
def test_masks_of_both_directions_at_initialisation(text, exact):
    """Independent weights: an m x m tile holds whole groups of both directions and shares none with another tile, so
    the share kept twice scatters by the standard deviation of tiles over the root of their number; 5 sigma, and half
    the last digit of the rounded value."""
    n, m = map(int, text.split(":"))
    run = execution("bdwp", text)
    weight = Linear("x", 1024, 1024, np.random.default_rng(n + m)).weight.value
    run.forward_weight("x", weight)
    run.backward_weight("x", weight)
    share, sigma = both_share(run.masks, n, m)
    assert sigma < 0.001
    assert share == pytest.approx(exact, abs=5 * sigma + 5e-5)
    assert float(both_kept_probability(n, m)) == pytest.approx(exact, abs=5e-5)
    shares = overlap(run.masks["x", "FF"], run.masks["x", "BP"])
    assert shares["both"] == pytest.approx(share, abs=1e-12)
    assert shares["only_a"] == pytest.approx(n / m - share, abs=1e-12)


def test_masks_follow_the_weights():
    """STE searches at every step, but not twice in one: the weight changes under the mask within a step."""
    run, weight = execution("ste"), weights((8, 4))
    for step in range(3):
        run.begin_step(step)
        run.forward_weight("x", weight)
        first = run.masks["x", "FF"]
        np.testing.assert_array_equal(first, magnitude_mask(weight, "2:4", -2))
        weight[:] = weights((8, 4), step + 10)
        run.forward_weight("x", weight)
        assert run.masks["x", "FF"] is first
    assert run.searches == {("x", "FF"): 3}


@pytest.mark.parametrize(
    ("refresh", "start", "searched"), [(1, 0, [0, 1, 2, 3, 4, 5, 6]), (3, 0, [0, 3, 6]), (3, 2, [2, 5]), (0, 4, [4])]
)
def test_refresh_period(refresh, start, searched):
    """Searches of 7 steps: at `start` and every `refresh` steps from there; with 0 only once."""
    recipe = Recipe(
        name="r", prunes=(Prune(stage="FF", operand="weight", direction="in", refresh=refresh),), start=start
    )
    run, found = execution(recipe), []
    for step in range(7):
        run.begin_step(step)
        assert run.phase == ("dense" if step < start else "sparse")
        before = run.searches.total()
        run.forward_weight("x", weights((8, 4), step))
        found += [step] * (run.searches.total() - before)
    assert found == searched


def test_a_skipped_step_does_not_skip_a_search():
    run = execution(Recipe(name="r", prunes=(Prune(stage="FF", operand="weight", direction="in", refresh=10),)))
    for step in (0, 9, 25, 29, 30):
        run.begin_step(step)
        run.forward_weight("x", weights((8, 4)))
    assert run.searches["x", "FF"] == 3


def test_asp_masks_weights_that_momentum_would_move():
    """After `start` pruned weights are zero at every forward pass, whatever the optimizer did to them."""
    run, weight = execution(get_recipe("asp").starting_at(1)), weights((8, 4))
    assert run.forward_weight("x", weight)[0] is weight
    mask = magnitude_mask(weight, "2:4", -2)
    for step in (1, 2):
        run.begin_step(step)
        run.forward_weight("x", weight)
        np.testing.assert_array_equal(weight != 0, mask)
        weight += 0.01


NET = """
kind: workload
name: net
source: test
sequence: {tokens: {length: 10}}
keep_dense: {stem: first layer}
layers:
  - {type: conv, name: stem, in: 8, out: 32, kernel: 3, padding: 1, input: 4}
  - {type: conv, name: grouped, in: 32, out: 64, kernel: 3, padding: 1, input: 4, groups: 2, bias: false}
  - {type: linear, name: a, in: 16, out: 32}
  - {type: linear, name: fc, in: 32, out: 10}
"""


def net():
    return Model.build(validate(ModelFile, read_text(NET)), batch=2)


def layers():
    rng = np.random.default_rng(0)
    return {
        "stem": (Conv2d("stem", 8, 32, 3, rng, padding=1), (2, 4, 4, 8), (2, 4, 4, 32)),
        "grouped": (Conv2d("grouped", 32, 64, 3, rng, padding=1, groups=2), (2, 4, 4, 32), (2, 4, 4, 64)),
        "a": (Linear("a", 16, 32, rng), (20, 16), (20, 32)),
        "fc": (Linear("fc", 32, 10, rng), (20, 32), (20, 10)),
    }


@pytest.mark.parametrize("text", ["2:8", "2:4", "fan-in:4"])
@pytest.mark.parametrize("recipe", TRAINING)
def test_ops_are_those_of_the_plan(recipe, text):
    """One executed step has the products, patterns, axes and mask searches that the planner lists for it."""
    heard = Heard()
    run = Run(
        Products(listener=heard),
        Execution.of(net(), recipe, text, listener=heard, start=0 if recipe == "asp" else None),
    )
    for layer, x, dy in layers().values():
        layer.forward(run, weights(x).astype(np.float32))
        layer.backward(run, weights(dy).astype(np.float32), (True,))
    work = net().forward().training(recipe, text, first_input_gradient=True)
    planned = work.select(work.is_stage("FF", "BP", "WU", "PRUNE") | work.is_kind("rescale")).to_frame()
    defaults = {"a_pattern": Pattern(), "b_pattern": Pattern(), "a_axis": "", "b_axis": "", "k": 1, "note": ""}
    columns = ("layer", "stage", "m", "n", "k", "a_pattern", "a_axis", "b_pattern", "b_axis", "a_elements", "a_role",
               "c_elements", "c_role")  # fmt: skip
    executed = [
        tuple(str((defaults | values | {"layer": layer, "stage": stage})[c]) for c in columns)
        for layer, stage, _, values in heard
    ]
    expected = [tuple(map(str, row)) for row in planned[list(columns)].itertuples(index=False, name=None)]
    assert sorted(executed) == sorted(expected)
    notes = [values["note"] for values in heard.of("PRUNE")]
    assert sorted(notes) == sorted(planned.loc[planned["stage"] == "PRUNE", "note"])


def test_fan_in_counts_a_row_at_all_kernel_positions():
    """Of a 3x3 convolution of 2 groups, 8 -> 2x6 channels: each output keeps 5 of its 72 weights, each input of each
    group 5 of its 54; each position of a gradient keeps 5 of the 6 channels of each group."""
    run = execution("bdwp", "fan-in:5", groups={"x": 2})
    weight = weights((3, 3, 8, 12))
    forward, backward = run.forward_weight("x", weight)[0], run.backward_weight("x", weight)[0]
    assert (np.count_nonzero(forward, axis=(0, 1, 2)) == 5).all()
    assert (np.count_nonzero(backward.reshape(3, 3, 8, 2, 6), axis=(0, 1, 4)) == 5).all()
    pruned, _ = execution("sdgp", "fan-in:5", groups={"x": 2}).backward_gradient("x", weights((2, 4, 4, 12)))
    assert (np.count_nonzero(pruned.reshape(2, 4, 4, 2, 6), axis=-1) == 5).all()


def test_tiles_of_rows():
    """64:2:8 shares 4 of every 8 columns in blocks of 64 rows: outputs of a weight along in, rows of a gradient."""
    run = execution("srste", "64:2:8")
    used, _ = run.forward_weight("x", weights((32, 64)))
    pruned, _ = execution("sdgp", "64:2:8").backward_gradient("x", weights((64, 32)))
    for tile in (used.T, pruned):
        assert (kept(tile, 8, -1) == 2).all()
        assert (kept((tile != 0).any(axis=0), 8, -1) <= 4).all()


def test_mask_search_as_the_listener_hears_it():
    """16 rows (outputs) of 8 inputs, of which 2:4 keeps half."""
    heard = Heard()
    run = execution("srste", listener=heard)
    run.forward_weight("x", weights((8, 16)))
    prune = Prune(stage="FF", operand="weight", direction="in")
    assert heard == [("x", "PRUNE", "prune", mask_search(prune, Pattern.parse("2:4"), 16, 8))]
    assert heard[0][3]["c_elements"] == 64


@pytest.mark.parametrize(("start", "searches"), [(0, 0), (3, 1)])
def test_a_mask_found_before_training_is_no_op_of_it(start, searches):
    """The planner and the run agree: one search of each mask if training went before it, else none."""
    heard = Heard()
    run = Execution.of(net(), "asp", "2:4", start=start, listener=heard)
    for step in range(5):
        run.begin_step(step)
        run.forward_weight("a", weights((16, 32)))
    planned = net().forward().training("asp", "2:4", steps=5, start=start).to_frame()
    rows = planned[(planned["stage"] == "PRUNE") & (planned["layer"] == "a")]
    assert len(heard) == searches
    assert list(rows["repeat"]) == [1] * searches


def test_phases_of_the_plan():
    """5 of 7 steps dense, then 2 sparse: the sum of the two runs apart, plus a search of each of 3 masks."""
    work = net().forward()
    both = work.training("asp", "2:4", steps=7, start=5)
    assert both.phases == (Phase("dense", 0, 5), Phase("sparse", 5, 2))
    dense, sparse = work.training(steps=5), work.training("static", "2:4", steps=2)
    assert both.macs_dense == dense.macs_dense + sparse.macs_dense
    assert len(both) == len(dense) + len(sparse) + 3
    frame = both.to_frame()
    patterns = frame[frame["stage"] == "FF"].groupby("phase")["b_pattern"].unique()
    assert list(patterns[0]) == ["dense"]
    assert "2:4" in patterns[1]
    assert (frame.loc[frame["phase"] == 0, "note"] == "").all()
    assert both.info["start"] == 5


def test_a_recipe_that_starts_with_the_last_step_trains_dense():
    work = net().forward()
    late = work.training("asp", "2:4", steps=4, start=4)
    assert late.phases == (Phase("train", 0, 4),)
    assert set(late.to_frame()["b_pattern"]) == {"dense"}
    with pytest.raises(UnsupportedError, match="start: is step 9 of 4: nothing is ever pruned"):
        work.training("asp", "2:4", steps=4, start=9)


@pytest.mark.parametrize("recipe", ["static", "srste", "bdwp"])
@pytest.mark.parametrize("refresh", [0, 1, 4])
def test_checkpoint(recipe, refresh):
    """Continued from a state after 6 of 9 steps, a run has the masks of the run that was not interrupted."""
    described = get_recipe(recipe)
    prunes = tuple(p.model_copy(update={"refresh": refresh}) for p in described.prunes)
    described = described.with_(prunes=prunes)
    straight, run = execution(described), execution(described)
    for step in range(9):
        if step == 6:
            state = run.state()
            assert all(isinstance(value, np.ndarray) for value in state.values())
            run = execution(described)
            run.restore(state)
            assert run.step == 5
        for each in (straight, run):
            each.begin_step(step)
            weight = weights((8, 8), step)
            each.forward_weight("x", weight)
            each.backward_weight("x", weight)
    assert run.searches == straight.searches
    assert run.masks.keys() == straight.masks.keys()
    for place, mask in straight.masks.items():
        np.testing.assert_array_equal(run.masks[place], mask)


def test_a_mask_found_before_the_checkpoint_is_not_searched_again():
    """An evaluation at step 6 found the mask of that step; the run continued from there uses it."""
    run, weight = execution("srste"), weights((8, 8))
    run.begin_step(6)
    run.forward_weight("x", weight)
    continued = execution("srste")
    continued.restore(run.state())
    continued.begin_step(6)
    continued.forward_weight("x", weight)
    assert continued.searches == {("x", "FF"): 1}


def test_state_of_another_run_is_refused():
    run = execution("static")
    run.forward_weight("x", weights((8, 8)))
    with pytest.raises(ShapeError, match="'searches/FF/x', which recipe 'sdwp'"):
        execution("sdwp").restore(run.state())
    with pytest.raises(ShapeError, match="no 'found'"):
        run.restore({})


def test_changes_of_masks():
    """A group [1,1,0,0] that becomes [1,0,1,0]: two flips, and one of two kept is replaced."""
    place = ("x", "FF")
    before, after = ({place: np.array(m, bool)} for m in ([1, 1, 0, 0], [1, 0, 1, 0]))
    assert changes(before, after) == {place: Change(2, 0.5)}
    assert changes({}, after) == {}


def test_masks_taken_earlier_stay():
    run, weight = execution("srste"), weights((8, 8))
    run.forward_weight("x", weight)
    before = dict(run.masks)
    run.begin_step(1)
    run.forward_weight("x", weights((8, 8), 1))
    change = changes(before, run.masks)["x", "FF"]
    assert 0 < change.churn < 1
    assert change.flips == 2 * round(change.churn * 32)


def test_buffers_are_reused():
    run, weight = execution("bdwp"), weights((8, 8))
    first = run.forward_weight("x", weight)[0], run.backward_weight("x", weight)[0]
    run.begin_step(1)
    again = run.forward_weight("x", weight)[0], run.backward_weight("x", weight)[0]
    assert first[0] is again[0]
    assert first[1] is again[1]
    assert first[0] is not first[1]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("recipe", TRAINING)
def test_types_are_kept(recipe, dtype):
    run = execution(recipe)
    weight, dy = weights((8, 8)).astype(dtype), weights((2, 3, 3, 8)).astype(dtype)
    arrays = [run.forward_weight("x", weight)[0], run.backward_weight("x", weight)[0]]
    arrays += [run.backward_gradient("x", dy)[0], run.weight_gradient("x", weight, weight.copy())]
    assert {array.dtype for array in arrays} == {np.dtype(dtype)}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: execution("srtse"), "did you mean srste"),
        (lambda: execution(Recipe(name="r", prunes=(INPUTS,))), "activation along 'in' in FF, which tr"),
        (lambda: get_recipe("sdwp").with_(prunes=BOTH), "two operands of"),
        (lambda: get_recipe("dense").starting_at(3), "no masks that could start at step 3"),
        (lambda: get_recipe("asp").starting_at(-1), "a share of the run, as 30 %, or auto; got -1"),
        (lambda: get_recipe("asp").starting_at(1.5), "at most 100 %, got 1.5"),
        (lambda: Execution.of(net(), "bdwp", "2:4", ["nothing"]), "no layer matches 'nothing'"),
    ],
)  # fmt: skip
def test_mistakes(make, message):
    with pytest.raises(UnsupportedError, match=message):
        make()
