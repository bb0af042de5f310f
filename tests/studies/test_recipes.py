"""The recipe study: what its runs execute, when its differences decide, and how runs are named."""

import numpy as np
import pandas as pd
import pytest

from nmsim.sparsity.pattern import Pattern
from nmsim.workloads.optable import WorkloadBuilder
from studies.recipes.budget import macs, reach
from studies.recipes.points import Point, all_points
from studies.recipes.run import RESULTS
from studies.recipes.table import difference


def product(stage, axis, pattern="2:4"):
    """One product of 2 x 4 x 8 = 64 multiply-accumulates whose B has the pattern along an axis."""
    work = WorkloadBuilder("one")
    work.add("fc", stage, m=2, n=4, k=8, b_pattern=Pattern.parse(pattern), b_axis=axis)
    return work.build()


def test_groups_along_k_are_skipped_and_others_only_counted():
    """2:4 along k leaves 32 of 64; along n a machine runs all 64, of which 32 are products with a zero."""
    assert macs(product("FF", "k")) == {"macs_dense": 64, "macs_FF": 32, "macs_BP": 0, "macs_WU": 0, "macs_nonzero": 32}
    assert macs(product("BP", "n")) == {"macs_dense": 64, "macs_FF": 0, "macs_BP": 64, "macs_WU": 0, "macs_nonzero": 32}


def test_weights_without_groups_are_gathered_in_both_passes():
    """Half of 64 kept, anywhere: 32 are left of FF, and of BP, where the weight's other axis is k."""
    for stage, axis in (("FF", "k"), ("BP", "n")):
        found = macs(product(stage, axis, "unstructured:0.5"))
        assert (found[f"macs_{stage}"], found["macs_nonzero"]) == (32, 32)


def test_reach_of_a_layer_beside_one_left_dense():
    """FF of a pruned and a dense layer of equal size: half of the MACs are reached, (32 + 64) / 128 are left."""
    work = WorkloadBuilder("two")
    work.add("fc", "FF", m=2, n=4, k=8, b_pattern=Pattern.parse("2:4"), b_axis="k")
    work.add("head", "FF", m=2, n=4, k=8)
    assert reach(work.build(), {"FF"}) == {"pruned_share": 0.5, "forward_share": 0.75}


def runs(*accuracies):
    """Runs of one task, seeds from 1."""
    return pd.DataFrame({"task": "vit", "seed": range(1, len(accuracies) + 1), "accuracy": accuracies})


def test_differences_are_taken_seed_by_seed():
    """0.9 - 0.8, 0.7 - 0.6 and 0.5 - 0.3 are 10, 10 and 20 points: mean 13.3, error 5.77 / sqrt(3) = 3.33."""
    found = difference(runs(0.9, 0.7, 0.5), runs(0.8, 0.6, 0.3))
    assert (found.mean, found.error, found.runs) == (pytest.approx(40 / 3), pytest.approx(10 / 3), 3)
    assert [found.above(least) for least in (0, 10, 25)] == ["yes", "undecided", "no"]
    assert [found.within(most) for most in (25, 13, 5)] == ["yes", "undecided", "no"]


def test_too_few_runs_decide_nothing():
    """Two seeds in common are no comparison."""
    assert difference(runs(0.9, 0.7), runs(0.1, 0.1, 0.1)).above() == "not run"
    assert np.isnan(difference(runs(), runs(0.5)).mean)


def test_runs_are_named_by_their_content():
    """The same content has the same name; another seed, lambda or length is another run."""
    own = Point("vit", "srste", "2:4", 1)
    others = (
        Point("vit", "srste", "2:4", 2), Point("vit", "srste", "2:4", 1, {"decay": 2e-3}),
        Point("vit", "srste", "2:4", 1, {}, {"steps": 50, "evaluate_every": 50}),
    )  # fmt: skip
    assert own.key() == Point("vit", "srste", "2:4", 1, {}, {}).key()
    assert len({own.key(), *(other.key() for other in others)}) == 4


def test_what_a_recipe_says_of_itself_makes_no_other_run(tmp_path):
    """A note is no content, lambda is."""
    path = tmp_path / "own.yaml"
    body = "kind: recipe\nname: own\nprunes: [{stage: FF, operand: weight, direction: in}]\n"
    keys = []
    for more in ("decay: 1.0e-3\n", "decay: 1.0e-3\nnote: another word\n", "decay: 2.0e-3\n"):
        path.write_text(body + more)
        keys.append(Point("vit", str(path), "2:4", 1).key())
    assert keys[0] == keys[1] != keys[2]


def test_every_row_of_the_table_is_of_a_run():
    """The rows that come with the study are those of its list, so that nothing of them is run again."""
    rows = pd.read_csv(RESULTS, usecols=["key"])["key"]
    assert rows.is_unique
    assert set(rows) == {point.key() for point in all_points()}
