"""The update as operations: what the optimizer's step on each layer's parameters adds to the record of a step."""

from __future__ import annotations

from collections import Counter

from nmsim.train.config import TrainingFile
from nmsim.train.layers.base import Parameter
from nmsim.train.products import Listener
from nmsim.train.recipes.execution import Execution
from nmsim.workloads.model import Model
from nmsim.workloads.training import Update, optimizer_rule, update_rows


def rule_name(config: TrainingFile) -> str:
    """What the planner calls the optimizer of a run."""
    sgd = config.optimizer.name == "sgd"
    return "sgd_momentum" if sgd and config.optimizer.momentum else config.optimizer.name


def master_dtype(config: TrainingFile) -> str:
    """The type in which weights and optimizer state are kept."""
    return "fp64" if config.precision == "fp64" else "fp32"


def record_updates(
    listener: Listener, model: Model, execution: Execution, config: TrainingFile, parameters: list[Parameter]
) -> None:
    """Tell the listener of the update of every parameter with a gradient, those of a layer and its extras together."""
    update = Update(optimizer_rule(rule_name(config)), master_dtype(config), config.precision)
    for layer, count in _counts(model, [p for p in parameters if p.grad is not None]).items():
        for row in update_rows(layer, count, update, execution.added_ops(layer) / count):
            listener.op(row.pop("layer"), row.pop("stage"), row.pop("kind"), **row)


def _counts(model: Model, parameters: list[Parameter]) -> Counter[str]:
    """Parameters of each layer of the model: a batch norm after a convolution counts with it."""
    names = sorted((layer.name for layer in model.layers), key=len, reverse=True)
    counts: Counter[str] = Counter()
    for parameter in parameters:
        owner = next(name for name in names if parameter.name == name or parameter.name.startswith(f"{name}."))
        counts[owner] += parameter.value.size
    return Counter({name: counts[name] for name in (layer.name for layer in model.layers) if name in counts})
