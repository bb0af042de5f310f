"""A trace as a workload: the run that was, for the engines."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nmsim.traces.schema import Trace
from nmsim.workloads.model import known_dtype
from nmsim.workloads.optable import DTYPES, ROLES, Workload


def workload(trace: Trace, dtype: str | None = None) -> Workload:
    """The operations that the run executed, with their phases; `info` has the single values of the trace's, and steps.

    The table has no model behind it. Its rows are those that the planner gives for the same run. With `dtype`,
    operands that the run held in its own type are costed in that one; optimizer state keeps its type. Raises
    UnsupportedError for an unknown type.
    """
    info = {key: value for key, value in trace.info.items() if not isinstance(value, dict | list)}
    work = replace(trace.executed, info={**info, "steps": trace.steps})
    return work if dtype is None else _retyped(work, str(info.get("dtype")), known_dtype(dtype))


def _retyped(work: Workload, own: str, dtype: str) -> Workload:
    columns = dict(work.columns)
    for letter in "abc":
        codes = columns[f"{letter}_dtype"]
        held = (codes == DTYPES.index(own)) & (columns[f"{letter}_role"] != ROLES.index("state"))
        columns[f"{letter}_dtype"] = np.where(held, DTYPES.index(dtype), codes).astype(codes.dtype)
    return replace(work, columns=columns, info={**work.info, "dtype": dtype})
