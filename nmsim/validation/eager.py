"""Networks as a framework runs them that starts an operation at a time, without fusing any."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import cache
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from nmsim.specfile import Count, Spec, read, validate
from nmsim.validation.settings import DATA
from nmsim.workloads.modelfile import Linear
from nmsim.workloads.optable import ROLES, STAGES, Workload

TRAINING = " training"
Elements = Annotated[float, Field(ge=0)]


class Kernels(Spec):
    """Kernels that go with an op, or replace it: their number, and what all read and write per element of the op."""

    on: str = Field(min_length=1)
    kernel: str = Field(min_length=1)
    kernels: Count = 1
    reads: Elements
    writes: Elements
    instead: bool = False


class Eager(Spec):
    """The file of kernels, by globs of networks."""

    kind: Literal["eager"]
    source: str = Field(min_length=1)
    networks: dict[str, list[Kernels]]


def eager(work: Workload, network: str, training: bool) -> Workload:
    """The workload of a network with the kernels of eager.yaml: those that go with its ops, or replace them."""
    kept, added = np.ones(len(work), dtype=bool), []
    for rule in eager_kernels(network):
        if rule.on.endswith(TRAINING) and not training:
            continue
        rows, elements = site(work, rule.on)
        if rule.instead:
            kept[rows] = False
        if len(rows):
            added.append((rule, np.repeat(rows, rule.kernels), np.repeat(elements, rule.kernels)))
    parts = list(_kernels(work, added))
    columns = {name: np.concatenate([work[name][kept], *(p[name] for p in parts)]) for name in work.columns}
    return replace(work, columns=columns, kinds=(*work.kinds, *(rule.kernel for rule, *_ in added)))


def _kernels(work: Workload, added: list[tuple[Kernels, np.ndarray, np.ndarray]]) -> Iterator[dict[str, np.ndarray]]:
    """The columns of the kernels of each rule, of the layers, phases and repeats of the ops that they go with."""
    plain = np.flatnonzero(work.is_stage("VECTOR"))[:1]
    for number, (rule, rows, elements) in enumerate(added):
        own = {name: np.repeat(column[plain], len(rows)) for name, column in work.columns.items()}
        reads, writes = (np.round(elements * x / rule.kernels).astype(np.int64) for x in (rule.reads, rule.writes))
        kind = np.full(len(rows), len(work.kinds) + number, dtype=work["kind"].dtype)
        yield own | {name: work[name][rows] for name in ("layer", "phase", "repeat")} | {
            "kind": kind, "m": elements, "m_inserted": elements, "n": np.ones_like(elements),
            "ops_per_element": np.ones(len(rows)),
            "a_elements": reads, "b_elements": np.zeros_like(reads), "c_elements": writes,
        }  # fmt: skip


def site(work: Workload, on: str) -> tuple[np.ndarray, np.ndarray]:
    """The rows that kernels are `on`, and the elements of which they read and write so many [rows]."""
    on = on.removesuffix(TRAINING)
    sizes = {x: work[f"{x}_elements"] for x in "abc"}
    weights = (work["b_role"] == ROLES.index("weight")) | (work["c_role"] == ROLES.index("weight_gradient"))
    products = work.gemms
    if on.startswith("heads "):
        stage = STAGES.index({"forward": "FF", "backward": "BP"}[on.removeprefix("heads ")])
        rows, elements = products & ~weights & (work["stage"] == stage), np.minimum.reduce(list(sizes.values()))
    elif on == "bias backward":
        rows, elements = products & work.is_stage("WU") & _biased(work), sizes["b"]
    elif on == "logits backward":
        last = np.flatnonzero(products & weights & work.is_stage("FF"))[-1:]
        rows, elements = np.isin(np.arange(len(work)), last) & bool(work.is_stage("WU").any()), sizes["c"]
    else:
        rows, elements = work.is_kind(on), work["m"] * work["n"] * work["count"]
    return np.flatnonzero(rows), elements[rows]


def _biased(work: Workload) -> np.ndarray:
    """The rows [ops] of layers with a bias."""
    layers = work.model.layers if work.model is not None else ()
    biased = {layer.name for layer in layers if isinstance(layer, Linear) and layer.bias}
    return np.array([name in biased for name in work.layers])[work["layer"]]


def eager_kernels(network: str) -> list[Kernels]:
    """The entries of eager.yaml that hold for a network, by its name."""
    return [rule for glob, rules in _file().networks.items() if fnmatchcase(network, glob) for rule in rules]


@cache
def _file() -> Eager:
    return validate(Eager, read(DATA / "eager.yaml"))
