"""Network: layers wired in a fixed order; forward runs it, backward runs it in reverse."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from nmsim.train.layers.base import Array, Layer, Parameter, Run
from nmsim.workloads.model import Model
from nmsim.workloads.modelfile import ModelFile


@dataclass(frozen=True)
class Node:
    """A layer and the names of the nodes (or network inputs) it reads."""

    layer: Layer
    inputs: tuple[str, ...]

    @property
    def name(self) -> str:
        """The layer's name."""
        return self.layer.name


@dataclass(frozen=True)
class Network:
    """Nodes in order of execution; the last one's output is the network's.

    `file` describes the same layers to the planner; `inputs` names what `forward` takes.
    """

    name: str
    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    file: ModelFile

    def parameters(self) -> Iterator[Parameter]:
        """Every learned array, in order of the nodes."""
        for node in self.nodes:
            yield from node.layer.parameters()

    def buffers(self) -> dict[str, Array]:
        """Running statistics of all layers, by `layer.buffer`."""
        return {f"{n.name}.{key}": value for n in self.nodes for key, value in n.layer.buffers().items()}

    def cast(self, dtype: type[np.floating]) -> None:
        """Hold parameters and running statistics in another floating type (float64 for checking)."""
        for parameter in self.parameters():
            parameter.value = parameter.value.astype(dtype)
        for node in self.nodes:
            node.layer.cast(dtype)

    def plan(self, batch: int) -> Model:
        """The model that the planner costs, at this batch."""
        return Model.build(self.file, batch=batch)

    def forward(self, run: Run, **inputs: Array) -> Array:
        """The output for inputs by name; every intermediate is dropped as soon as no later node reads it."""
        last = {name: i for i, node in enumerate(self.nodes) for name in node.inputs}
        values: dict[str, Array] = dict(inputs)
        for i, node in enumerate(self.nodes):
            values[node.name] = node.layer.forward(run, *(values[name] for name in node.inputs))
            for name in node.inputs:
                if last[name] == i:
                    values.pop(name, None)
        return values[self.nodes[-1].name]

    def backward(self, run: Run, dy: Array) -> None:
        """Sets the gradient of every parameter from that of the output."""
        learned = self._behind_parameters()
        gradients: dict[str, Array] = {self.nodes[-1].name: dy}
        for node in reversed(self.nodes):
            if (gradient := gradients.pop(node.name, None)) is None:
                continue
            needs = tuple(name in learned for name in node.inputs)
            for name, part in zip(node.inputs, node.layer.backward(run, gradient, needs), strict=True):
                if part is not None:
                    gradients[name] = _joined(gradients.get(name), part)

    def _behind_parameters(self) -> set[str]:
        """Nodes whose output depends on something learned: gradients are wanted for these only."""
        learned: set[str] = set()
        for node in self.nodes:
            if any(True for _ in node.layer.parameters()) or learned.intersection(node.inputs):
                learned.add(node.name)
        return learned


def _joined(before: Array | None, part: Array) -> Array:
    """The sum of the gradients that a node gets from its readers; never written into a shared array."""
    return part if before is None else before + part
