"""TASD evaluated: a trained network with its weights or activations as a sum of structured terms."""

from __future__ import annotations

import numpy as np
import pytest

from nmsim.errors import PatternError, UnsupportedError
from nmsim.sparsity.mask import magnitude_mask
from nmsim.train.loop import Trainer
from nmsim.train.recipes.series import evaluate_series
from tests.train.test_all_recipes import settings


@pytest.fixture(scope="module")
def trained() -> Trainer:
    trainer = Trainer(settings("mlp", "dense", "dense"))
    trainer.train()
    return trainer


@pytest.mark.parametrize("recipe", ["tasd", "tasd_activations"])
def test_terms_that_hold_everything_change_nothing(recipe: str, trained: Trainer):
    """2:4 and 2:4 of the rest are all of it."""
    loss, accuracy = evaluate_series(trained, "2:4+2:4", recipe)
    expected = trained.evaluate()
    assert loss == pytest.approx(expected[0], rel=1e-6)
    assert accuracy == expected[1]


def test_a_series_of_equal_groups_is_one_mask(trained: Trainer):
    """1:4 + 1:4 of the weights is 2:4 by magnitude, here of fc2, the only layer that is not first or last."""
    found = evaluate_series(trained, "1:4+1:4")
    weight = trained.weights["fc2"].value
    dense = weight.copy()
    before = trained.evaluate()
    weight *= magnitude_mask(weight, "2:4", -2)
    expected = trained.evaluate()
    weight[...] = dense
    assert found == expected
    assert found != before
    assert trained.evaluate() == before


def test_more_terms_lose_less(trained: Trainer):
    """Of weights and of activations the error of the logits' loss falls with the density of the series."""
    whole = trained.evaluate()[0]
    for recipe in ("tasd", "tasd_activations"):
        losses = [abs(evaluate_series(trained, text, recipe)[0] - whole) for text in ("1:8", "2:4+1:8", "2:4+2:8+1:4")]
        assert losses[2] < losses[0]
        assert np.isfinite(losses).all()


def test_mistakes(trained: Trainer):
    with pytest.raises(UnsupportedError, match="'srste' has no series of terms"):
        evaluate_series(trained, "2:4", "srste")
    with pytest.raises(PatternError, match="takes nothing of"):
        evaluate_series(trained, "1:7")
