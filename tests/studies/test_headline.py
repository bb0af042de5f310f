"""The headline study: what a run costs, by a run small enough to count."""

import numpy as np
import pandas as pd
import pytest

from studies.headline.costs import MACHINES, costs
from studies.headline.table import cost_columns
from studies.recipes.points import Point


@pytest.fixture(scope="module")
def rows():
    """Dense and two recipes on the ViT, costed as the table has them."""
    points = {"dense": Point("vit", "dense", "dense", 1), "bdwp": Point("vit", "bdwp", "2:8", 1)}
    points["sdgp"] = Point("vit", "sdgp", "2:4", 1)
    return pd.DataFrame({name: costs(point) for name, point in points.items()}).T


def test_every_column_of_the_table_is_there_and_positive(rows):
    """So that a machine or scale that is added is not forgotten in the table."""
    assert (rows[cost_columns()] > 0).all(axis=None)


def test_flops_are_twice_the_multiply_accumulates_left(rows):
    """BDWP at 2:8 leaves a quarter of FF and BP, and all of WU: at least half of the three, more with dense layers."""
    for scale in ("trained", "large"):
        share = rows[f"{scale}.flops"] / rows[f"{scale}.flops_dense"]
        assert share["dense"] == 1
        assert 0.5 < share["bdwp"] < 0.75


def test_a_recipe_that_prunes_gradients_alone_leaves_the_network_dense(rows):
    """SDGP saves training; what is deployed costs what the dense network does."""
    for machine in MACHINES:
        assert rows.loc["sdgp", f"large.{machine}.infer_s"] == rows.loc["dense", f"large.{machine}.infer_s"]
    assert rows.loc["sdgp", "large.weight_bytes"] == rows.loc["dense", "large.weight_bytes"]
    assert np.isclose(rows.loc["bdwp", "large.weight_bytes"] / rows.loc["dense", "large.weight_bytes"], 0.25, atol=0.03)
