"""What each way of finding a mask costs, counted by hand."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from nmsim.arch.load import load_arch
from nmsim.engines.run import simulate
from nmsim.sparsity import permutation
from nmsim.sparsity.parts import Prune
from nmsim.sparsity.pattern import Pattern
from nmsim.sparsity.recipe import get_recipe
from nmsim.sparsity.timeline import Timeline
from nmsim.specfile import read_text, validate
from nmsim.train.recipes.search import Finder
from nmsim.workloads import recipe_ops
from nmsim.workloads.model import Model
from nmsim.workloads.modelfile import ModelFile
from nmsim.workloads.optable import Workload
from nmsim.workloads.search_ops import ROUNDS, fillings, growth_ops, search_ops, top_n, transposable

HEAD = "kind: workload\nname: net\nsource: test\nsequence: {tokens: {length: 32}}\n"
LAYER = "layers:\n  - {type: linear, name: a, in: 16, out: 8}\n"
TWO_FOUR = Pattern.nm(2, 4)


def plan(recipe: Any, pattern: str = "2:4", **options: Any) -> Workload:
    """A run of 20 steps of one layer of 16 inputs and 8 outputs on 2 samples of 32 tokens."""
    model = Model.build(validate(ModelFile, read_text(HEAD + LAYER)), batch=2)
    return model.forward().training(recipe, pattern, steps=20, first_input_gradient=True, **options)


def searches(work: Workload) -> list[tuple[Any, ...]]:
    """Kind, m, n, arithmetic per element and number of the mask searches of a run."""
    frame = work.to_frame().query("stage == 'PRUNE'")
    return [tuple(row) for row in frame[["kind", "m", "n", "ops_per_element", "repeat"]].itertuples(index=False)]


def cost(recipe: str, pattern: Pattern = TWO_FOUR, m: int = 8, n: int = 16, stage: str = "FF") -> float:
    described = get_recipe(recipe)
    prune = described.prune(stage)  # type: ignore[arg-type]
    assert prune is not None
    return search_ops(prune, described, pattern, m, n)


def test_top_n():
    """2:4 takes 3 + 2 = 5 comparisons of a group of 4, 1:8 takes 7, a fan-in of 2 in a row of 16 takes 15 + 14."""
    assert top_n(TWO_FOUR, 16) * 4 == 5
    assert top_n(Pattern.nm(1, 8), 16) * 8 == 7
    assert top_n(Pattern.fan_in(2), 16) * 16 == 29
    assert top_n(Pattern.unstructured(0.1), 16) == 1


def test_magnitude_is_left_to_the_machine():
    """A plain search has no arithmetic of its own: a machine may have a unit for it."""
    assert searches(plan("srste")) == [("prune", 8, 16, 0.0, 20)]


def test_random():
    """A number for each element, then 5 / 4 comparisons."""
    assert cost("random") == 1 + 5 / 4


@pytest.mark.parametrize(("n", "m"), [(1, 2), (1, 3), (2, 3), (1, 4), (2, 4), (3, 4)])
def test_fillings_are_all_of_them(n: int, m: int):
    rows = [np.array(row) for row in product((0, 1), repeat=m) if sum(row) == n]
    assert fillings(n, m) == sum((np.sum(tile, axis=0) == n).all() for tile in product(rows, repeat=m))


def test_transposable():
    """2:4, a tile of 16: 16 magnitudes, 90 sums of 8 elements with 7 additions, the largest of 90: 16 + 630 + 89 =
    735. 2:8, a tile of 64 with K = 16: 64 magnitudes, 64 x 6 comparisons, 128 counts, two sweeps over 120 pairs with 3
    each: 64 + 384 + 128 + 720 = 1296. BP has the mask of FF and searches none."""
    assert transposable(TWO_FOUR) * 16 == 735
    assert transposable(Pattern.nm(2, 8)) * 64 == 1296
    assert searches(plan("transposable")) == [("prune", 8, 16, 735 / 16, 1)]


def test_order_of_channels_of_asp():
    """2:4 of 16 channels: 4 stripes, 6 pairs, 35 splits of each, which keep 2 groups of a row: 2 (5 + 2) = 14. 6.4
    rounds: 6.4 x 6 x 35 x 14 = 18816 a row, then the top-n of 20. 2:8: 1 pair, 64 exchanges, 2 (13 + 2) = 30, 12.8
    rounds: 24576, then 26."""
    assert cost("asp_permuted") * 16 == pytest.approx(18816 + 20)
    assert cost("asp_permuted", Pattern.nm(2, 8)) * 16 == pytest.approx(24576 + 26)
    ((kind, m, n, ops, repeat),) = searches(plan("asp_permuted"))
    assert (kind, m, n, repeat) == ("prune", 8, 16, 1)
    assert ops == pytest.approx(18836 / 16)


@pytest.mark.parametrize(
    ("pattern", "channels"), [("2:4", 64), ("2:4", 256), ("1:4", 128), ("2:8", 256), ("1:16", 512)]
)
def test_pairs_of_stripes_that_asp_looks_at(pattern: str, channels: int, monkeypatch: pytest.MonkeyPatch):
    """The search of a training is counted: pairs evaluated over those of the plan, ROUNDS M of all. How often depends
    on the weights, within a third on these."""
    looked: list[int] = []
    evaluate = permutation._Search._evaluate

    def counted(search: permutation._Search, stale: np.ndarray) -> None:
        looked.append(len(stale))
        evaluate(search, stale)

    monkeypatch.setattr(permutation._Search, "_evaluate", counted)
    described = Pattern.parse(pattern)
    weight = np.random.default_rng(3).standard_normal((channels, 256), dtype=np.float32)
    prune = get_recipe("asp_permuted").prunes[0]
    Finder(0).mask(("x", "FF"), prune, get_recipe("asp_permuted"), described, weight, 1, 0, None, False)
    stripes = channels // described.m
    planned = ROUNDS * described.m * stripes * (stripes - 1) / 2
    assert sum(looked) / planned == pytest.approx(1, abs=1 / 3)


def test_order_of_channels_of_bimask():
    """W [16, 8] as 16 rows of 8 outputs, 2 groups each. Of 100 orders: 8 draws, 128 additions, 32 groups capped: 168
    for 128 elements. The mask: a product and 5 / 4 comparisons at every step. Orders at steps 0 and 12 of 20."""
    prunes = [p.model_dump() | ({"renew": 12} if p.mask == "permuted" else {}) for p in get_recipe("bimask").prunes]
    found = searches(plan({"base": "bimask", "prunes": prunes}))
    order = next(row for row in found if row[0] == "order")
    assert order[:3] == ("order", 16, 8)
    assert order[3] * 128 == pytest.approx(100 * 168)
    assert order[4] == 2
    assert ("prune", 16, 8, 1 + 5 / 4, 20) in found


@pytest.mark.parametrize(
    ("start", "renew", "refresh", "expected"),
    [(0, 100, 1, 1), (0, 5, 1, 4), (3, 5, 1, 4), (3, 5, 4, 4), (0, 1, 4, 5), (3, 10, 7, 2), (15, 100, 1, 1)],
)
def test_orders_are_counted_from_the_start(start: int, renew: int, refresh: int, expected: int):
    """Of 20 steps: from 0 every 5 at 0, 5, 10, 15; from 3 at 3, 8, 13, 18. Masks every 4 from 3, at 3, 7, 11, 15, 19,
    renew at 3 (0), 11 (8 is past 5), 15 (12 past 10) and 19 (16 past 15); every 7 from 3, at 3, 10, 17: at 3 and 17."""
    prune = Prune(stage="BP", operand="weight", direction="out", mask="permuted", refresh=refresh, renew=renew)
    line = Timeline.of(get_recipe("bimask").starting_at(start), TWO_FOUR, 20)
    assert sum(recipe_ops.orders(prune, line, span) for span in line.spans if span.prunes) == expected


def test_wanda():
    """After the last step: 512 samples of 32 tokens, a product and a sum for each of 16 inputs; then |w| norm and
    top-n for each weight."""
    assert searches(plan("oneshot_wanda")) == [("prune", 8, 16, 1 + 5 / 4, 1), ("input_norms", 512 * 32, 16, 2.0, 1)]
    few = searches(plan("oneshot_wanda", calibration=3))
    assert few[1] == ("input_norms", 96, 16, 2.0, 1)


def test_statistics_are_small_beside_what_they_read():
    """16384 tokens of 16 inputs in 2 bytes are read, and 16 sums written."""
    result = simulate(load_arch("a100_sxm4_80gb"), plan("oneshot_wanda"))
    row = result.workload.is_kind("input_norms")
    assert result.columns["dram.a"][row].tolist() == [16384 * 16 * 2]
    assert result.columns["dram.c"][row][0] <= 16 * 4


def test_sparsegpt():
    """H: 16 multiply-adds for each input of a token. Its inverse factor: 16³ / 3 twice. A weight: two scalings, 5 / 4
    comparisons, and of the 15, 14, ... 0 later inputs an update each: 120 multiply-adds of 16 weights, 15 each."""
    assert searches(plan({"base": "oneshot_sparsegpt", "start": "50 %"})) == [
        ("prune", 8, 16, 2 + 5 / 4 + 15, 1), ("hessian", 512 * 32, 16, 32.0, 1), ("inverse", 16, 16, 32 / 3, 1),
    ]  # fmt: skip
    assert pytest.approx(2 * 16**3 / 3) == 32 / 3 * 16 * 16


def test_learned_choice():
    """The largest of 6 logits of a group of 4: 5 comparisons, in each of the 5 steps after the soft phase."""
    assert cost("maskllm") * 4 == 5
    ended = plan({"base": "maskllm", "soft": {"end": "75 %"}})
    assert searches(ended) == [("prune", 8, 16, 5 / 4, 5)]


def test_growth():
    """Two selections over the layer, a magnitude and 3.4 comparisons each; SRigL counts salient weights and selects in
    each neuron besides. A late start is a plain search."""
    assert growth_ops(False, 8) == pytest.approx(8.8)
    assert growth_ops(True, 8) == pytest.approx(13.2)
    asked = {"base": "rigl", "start": 3, "growth": {"every": 4}}
    assert searches(plan(asked, "unstructured:0.25")) == [
        ("prune", 8, 16, 0.0, 1), ("prune", 8, 16, pytest.approx(8.8), 2)
    ]  # fmt: skip


def test_a_search_with_arithmetic_of_its_own_takes_the_vector_lanes():
    """SAT selects on its reduction engine while weights stream in; a random mask is made on the vector lanes, and its
    arithmetic is counted as such: 9 / 4 of 128 weights."""
    arch = load_arch("sat_vcu1525")
    plain, random = (simulate(arch, plan(recipe)) for recipe in ("srste", "sdgp_random"))
    own = random.workload.is_stage("PRUNE")
    assert plain.columns["lane_ops"][plain.workload.is_stage("PRUNE")].sum() == 0
    elements = random.workload["m"][own] * random.workload["n"][own]
    np.testing.assert_allclose(random.columns["lane_ops"][own], elements * 9 / 4)
