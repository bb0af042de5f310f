"""Fitting data to networks: what a network reads and is asked for, and the sizes that the data decide."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np

from nmsim.errors import UnsupportedError, unknown
from nmsim.train.data.dataset import Dataset
from nmsim.train.data.translation import decoder_inputs
from nmsim.train.models import MODELS, make_model
from nmsim.train.network import Network

READS = {
    "images": ("mlp", "resnet9", "resnet9_narrow", "vgg_small", "vit_tiny"),
    "signals": ("mlp",),
    "sequence_to_sequence": ("transformer",),
    "tokens": ("language_model",),
}
"""The models that can learn each kind of data."""


def network_for(data: Dataset, model: str, sizes: Mapping[str, int], rng: np.random.Generator) -> Network:
    """The network with the sizes given, and those of the data for the rest; raises UnsupportedError if it cannot."""
    if model not in MODELS:
        raise UnsupportedError(unknown("model", model, MODELS))
    if model not in READS[data.kind]:
        able = ", ".join(READS[data.kind])
        raise UnsupportedError(f"model {model!r} cannot learn {data.name!r} ({data.kind}); models that can: {able}")
    decided = _decided(data, model)
    known = set(inspect.signature(MODELS[model]).parameters) - {"rng"} | set(decided)
    for name, value in sizes.items():
        if name not in known:
            raise UnsupportedError(unknown(f"size of {model}", name, known))
        if name in decided and decided[name] != value:
            raise UnsupportedError(f"size {name} of {model} is {decided[name]} by the data {data.name!r}, not {value}")
    return make_model(model, rng, **{**sizes, **decided})


def _decided(data: Dataset, model: str) -> dict[str, int]:
    shape = data.train.inputs.shape
    if model == "mlp":
        return {"inputs": int(np.prod(shape[1:])), "classes": data.classes}
    if data.kind == "images":
        if shape[1] != shape[2]:
            raise UnsupportedError(f"images of {data.name!r} are {shape[1]}x{shape[2]}; the networks take square ones")
        return {"size": shape[1], "channels": shape[3], "classes": data.classes}
    if data.kind == "tokens":
        return {"vocabulary": data.classes, "length": shape[1]}
    return {"vocabulary": data.classes, "source": shape[1], "target": data.train.targets.shape[1]}


def network_inputs(data: Dataset, model: str, inputs: np.ndarray, targets: np.ndarray) -> dict[str, Any]:
    """What the network reads for a batch of the data, by the names of its inputs."""
    if data.kind == "sequence_to_sequence":
        pad = int(data.info["pad"])
        shifted = decoder_inputs(targets, int(data.info["bos"]), pad)
        return {"source": inputs, "target": shifted, "source_mask": inputs != pad}
    return {"inputs": inputs.reshape(len(inputs), -1) if model == "mlp" else inputs}
