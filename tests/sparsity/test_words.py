"""Recipes in words, against the rules of their files read by hand."""

from __future__ import annotations

import pytest

from nmsim.sparsity.recipe import all_recipes, get_recipe
from nmsim.sparsity.words import bounds, schedule, stages


def test_stages():
    """BDWP prunes the weight of both passes, SR-STE that of FF; RigL has its mask in BP, and WU counts in the bound."""
    assert stages(get_recipe("bdwp")) == {
        "FF": "weight pruned along in, mask searched every step",
        "BP": "weight pruned along out, mask searched every step",
        "WU": "dense",
    }
    assert stages(get_recipe("srste"))["BP"].startswith("the weight of FF, whose groups do not run along the axis")
    assert stages(get_recipe("rigl"))["BP"].startswith("the weight of FF, whose kept elements")
    assert stages(get_recipe("slope"))["BP"] == "weight pruned along out, mask searched every 100 steps"
    assert stages(get_recipe("oneshot_wanda"))["FF"] == "weight pruned along in, mask (wanda) found once"
    assert list(stages(get_recipe("tasd"))) == ["FF"]


@pytest.mark.parametrize(
    ("name", "training", "inference"),
    [
        ("srste", "3 / (2 + d): 1.20 at 2:4, 1.41 at 1:8", "1 / d: 2.00 at 2:4, 8.00 at 1:8"),
        ("sdgp", "3 / (2 + d): 1.20 at 2:4, 1.41 at 1:8", None),
        ("bdwp", "3 / (1 + 2d): 1.50 at 2:4, 2.40 at 1:8", "1 / d: 2.00 at 2:4, 8.00 at 1:8"),
        ("rigl", "3 / (3d + (1 - d) / 100): 1.99 at 2:4, 7.82 at 1:8", "1 / d: 2.00 at 2:4, 8.00 at 1:8"),
        ("oneshot_magnitude", "1: no product of training is sparse", "1 / d: 2.00 at 2:4, 8.00 at 1:8"),
        ("tasd", None, "1 / d: 2.00 at 2:4, 8.00 at 1:8"),
        ("dense", None, None),
    ],
)
def test_bounds(name: str, training: str | None, inference: str | None):
    """3 / 2.5 and 3 / 2.125; 3 / 2 and 3 / 1.25; 3 / 1.505 and 3 / 0.38375; 2 and 8 for an inference."""
    found = bounds(get_recipe(name))
    assert found.get("bound, training step") == training
    assert found.get("bound, inference") == inference


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("srste", "masks hard from the first step on"),
        ("asp", "dense up to 50 %; masks hard from there on"),
        ({"base": "asp", "start": 30}, "dense up to step 30; masks hard from there on"),
        ("mask_decay", "dense up to 10 %; pruned weights fade (linear) up to 60 %; masks hard after that"),
        ("maskllm", "dense up to 50 %; masks are learned up to the end; masks hard after the last step"),
        ("sdgf_geometric", "the pattern grows stricter (geometric) up to the end"),
        ("srigl", "weights dropped and grown every 100 steps up to 75 %, the mask fixed after that"),
        ("oneshot_wanda", "dense to the end, then pruned once"),
        ("slope", "masks hard from the first step on; low-rank adapters from 99 % on"),
        ({"base": "step", "start": "auto"}, "dense until Adam's variance has settled; masks hard from there on"),
        ("tasd", ""),
        ("dense", ""),
    ],
)
def test_schedule(asked, expected: str):
    assert schedule(get_recipe(asked)) == expected


@pytest.mark.parametrize("recipe", all_recipes(), ids=lambda recipe: recipe.name)
def test_every_recipe_that_prunes_has_words_and_a_bound_above_1(recipe):
    """Of a training step or of an inference; one that trains has a schedule."""
    if not recipe.prunes:
        return
    assert max(recipe.speedup_bound(0.5), recipe.inference_bound(0.5)) > 1
    assert bounds(recipe)
    assert bool(schedule(recipe)) == recipe.trains
