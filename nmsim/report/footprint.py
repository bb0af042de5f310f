"""What a workload keeps in DRAM, and whether the machine has that much."""

from __future__ import annotations

from typing import cast

import numpy as np

from nmsim.arch.schema import AnyArch
from nmsim.report.tables import quantity
from nmsim.results.result import Result
from nmsim.workloads.model import Model
from nmsim.workloads.optable import DTYPE_BITS, ROLES, Workload
from nmsim.workloads.shapes import parameters, weight_of

_BITS = np.array(list(DTYPE_BITS.values()))


def notes(result: Result) -> list[str]:
    """What a reader must know before the figures: that the model does not fit into the machine's DRAM."""
    capacity = cast(AnyArch, result.arch).memories.dram.capacity
    needed = kept_bytes(result.workload)
    if capacity is None or needed <= capacity:
        return []
    what = "weights and optimizer state" if result.workload.is_kind("optimizer").any() else "weights"
    return [
        f"{result.workload.name} does not fit: its {what} take at least {quantity(needed, 'B')}, and "
        f"{result.arch.name} has {quantity(capacity, 'B')} of DRAM; the figures are those of a machine with enough"
    ]


def kept_bytes(work: Workload) -> float:
    """Bytes that the weights and, in training, the optimizer state take at least (no activations, caches or indices).

    0 for a table of products, of which it is not known what they share.
    """
    if work.model is None:
        return 0.0
    if (updates := work.is_kind("optimizer")).any():
        once = work["phase"] == work["phase"][updates][0]
        return _stored(work, "b", updates & once) + _stored(work, "c", work.is_kind("cast") & once)
    dense = sum(map(parameters, work.model.layers))
    return (dense - _left_out(work, work.model)) * DTYPE_BITS[work.info.get("weight_dtype", work.info["dtype"])] / 8


def _stored(work: Workload, letter: str, rows: np.ndarray) -> float:
    return float(np.sum(work[f"{letter}_elements"][rows] * _BITS[work[f"{letter}_dtype"][rows]]) / 8)


def _left_out(work: Workload, model: Model) -> float:
    """Weights that an inference does not store because a pattern leaves them out."""
    pruned = work.gemms & (work["b_role"] == ROLES.index("weight")) & (work["b_pattern"] > 0)
    rows = zip(work["layer"][pruned].tolist(), work["b_pattern"][pruned].tolist(), strict=True)
    patterns = {work.layers[layer]: work.patterns[pattern] for layer, pattern in rows}
    left_out = 0.0
    for layer in model.layers:
        weight, pattern = weight_of(layer), patterns.get(layer.name)
        if weight and pattern and parameters(layer):
            left_out += weight.elements * (1 - pattern.density_along(weight.matrix("in")[1]))
    return left_out
