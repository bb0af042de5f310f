"""A trace as a workload: the run that was, for the engines."""

from __future__ import annotations

from dataclasses import replace

from nmsim.traces.schema import Trace
from nmsim.workloads.optable import Workload


def workload(trace: Trace) -> Workload:
    """The operations that the run executed, with their phases; `info` has the single values of the trace's, and steps.

    The table has no model behind it. Its rows are those that the planner gives for the same run.
    """
    info = {key: value for key, value in trace.info.items() if not isinstance(value, dict | list)}
    return replace(trace.executed, info={**info, "steps": trace.steps})
