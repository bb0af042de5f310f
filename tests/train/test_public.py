"""The public names of nmsim.train, used as their documentation says."""

from __future__ import annotations

import numpy as np
import pytest

from nmsim.train import Trainer, TrainingFile, check_gradients, load_data, make_model
from nmsim.train.layers.linear import Linear
from nmsim.train.models import MODELS


def test_a_run_in_a_few_lines():
    config = TrainingFile.model_validate(
        {
            "kind": "training", "model": {"name": "mlp", "sizes": {"width": 16}}, "steps": 3, "batch": 8,
            "data": {"name": "signals", "options": {"train": 32, "test": 16}},
            "schedule": {"name": "constant", "rate": 0.1}, "recipe": "bdwp", "pattern": "2:4",
        }
    )  # fmt: skip
    trainer = Trainer(config)
    trainer.train()
    assert trainer.step == 3
    assert trainer.trace().workload().info["recipe"] == "bdwp"


def test_gradients_of_a_layer():
    rng = np.random.default_rng(0)
    assert check_gradients(Linear("fc", 5, 3, rng), [rng.standard_normal((4, 5))]) < 1e-6


@pytest.mark.parametrize("name", MODELS)
def test_models_have_the_parameters_that_the_planner_counts(name: str):
    network = make_model(name, np.random.default_rng(0))
    assert sum(p.value.size for p in network.parameters()) == network.plan(1).parameters


def test_resnet9_is_the_one_of_the_library():
    """The full model trains what `workloads/resnet9.yaml` costs."""
    import nmsim

    library = nmsim.load_workload("resnet9").model
    network = make_model("resnet9", np.random.default_rng(0))
    assert library is not None
    assert network.plan(1).parameters == library.parameters
    assert network.plan(1).macs == library.macs


def test_unknown_data_lists_the_nearest():
    with pytest.raises(ValueError, match="did you mean images"):
        load_data("imags")
