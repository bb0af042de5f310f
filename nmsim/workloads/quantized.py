"""Quantised weights: an inference workload whose weights are stored in a narrower type than its activations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nmsim.errors import UnsupportedError, unknown
from nmsim.workloads.model import size
from nmsim.workloads.optable import DTYPES, QUANTIZED, ROLES, Workload

_TRAINS = ("BP", "WU", "UPDATE")


def with_weights(work: Workload, dtype: str | None, group: int | None = None) -> Workload:
    """`work` with the weights of its products in `dtype`; see `Workload.quantized`. None leaves them as they are.

    What a product in a quantised type costs beside it, scaling its sums, is done as they are written out and costs
    nothing of its own, as a bias does; activations have one scale each, which is not counted.
    """
    if dtype is None:
        if group is not None:
            raise UnsupportedError("a group of scales goes with quantised weights; give a weight dtype too")
        return work
    if dtype not in QUANTIZED:
        raise UnsupportedError(unknown("data type of quantised weights", dtype, QUANTIZED))
    if work.is_stage(*_TRAINS).any():
        raise UnsupportedError(f"{work.name!r} trains; weights can be quantised for an inference only")
    weights = work.gemms & (work["b_role"] == ROLES.index("weight"))
    codes = work["b_dtype"]
    columns = {**work.columns, "b_dtype": np.where(weights, DTYPES.index(dtype), codes).astype(codes.dtype)}
    length = 0 if group is None else size("a group of weights that share a scale", group)
    info = {**work.info, "weight_dtype": dtype, **({"weight_group": length} if length else {})}
    return replace(work, columns=columns, info=info, weight_group=length)
