"""What a trace holds: the executed operations, how often their patterns were checked, evaluations and statistics."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nmsim.errors import NmsimError
from nmsim.workloads.optable import COLUMNS, Workload

FORMAT = "nmsim trace"
SCHEMA = 3
OPERANDS = ("a", "b")
MAX_ROWS = 2**22
"""Rows of a table at most."""

CHECKED: dict[str, type] = dict.fromkeys(OPERANDS, np.int64)
EVALUATIONS: dict[str, type] = {
    "step": np.int64,
    "train_loss": np.float64, "test_loss": np.float64, "test_accuracy": np.float64, "learning_rate": np.float64,
}  # fmt: skip
INTERVALS: dict[str, type] = {
    "step": np.int64, "layer": np.int32, "stage": np.uint8, "operand": np.uint8, "role": np.uint8,
    "density": np.float64, "mask_flips": np.int64, "mask_churn": np.float64,
    "gradient_norm": np.float64, "gradient_variance": np.float64, "second_moment_variance": np.float64,
    "checked": np.int64,
}  # fmt: skip
TABLES: dict[str, dict[str, type]] = {
    "ops": COLUMNS, "checked": CHECKED, "evaluations": EVALUATIONS, "intervals": INTERVALS
}  # fmt: skip
"""Columns of each table with their data types."""

INFO_KEYS = ("model", "recipe", "pattern", "seed", "batch", "dtype", "optimizer", "config", "nmsim", "created_by")
"""What `info` says of the run; more is allowed."""


class TraceError(NmsimError):
    """A trace that cannot be read, or a recording that would not be true; `path` is the file, if there is one."""

    def __init__(self, message: str, path: str | os.PathLike[str] | None = None):
        super().__init__(message if path is None else f"{os.fspath(path)}: {message}")
        self.message, self.path = message, path


@dataclass(frozen=True, eq=False)
class Trace:
    """What a training run did.

    - `executed`: the operations as a workload without a model. A run of equal steps is one phase; the `repeat` of a
      row is how many times it was executed in its phase. Rows of stage PRUNE, which a refresh period leaves out of
      most steps, do not part phases.
    - `checked`: columns a, b [ops]: how many times the operand of the row was found to obey the row's pattern.
      Each row is checked at least every `check_every` steps, and when it is first executed.
    - `evaluations`: columns of EVALUATIONS; `step` is the number of steps done before.
    - `intervals`: columns of INTERVALS, a row per layer, stage and operand at the end of an interval of steps:
      `density`, the measured share of non-zeros; `mask_flips`, mask entries changed over the interval, and
      `mask_churn`, the share of kept entries replaced; norm and variance of the gradient, and the variance of Adam's
      second moment; `checked`, checks in the interval. NaN where a figure was not measured. `layer` is an index
      into `executed.layers`, `stage` into STAGES, `operand` into OPERANDS, `role` into ROLES.
    - `info`: plain JSON data, the keys of INFO_KEYS and more.
    - `digest`: the SHA-256 of all of it, as `content_digest` computes it.
    """

    executed: Workload
    checked: Mapping[str, np.ndarray]
    evaluations: Mapping[str, np.ndarray]
    intervals: Mapping[str, np.ndarray]
    check_every: int
    info: Mapping[str, Any] = field(default_factory=dict)
    schema: int = SCHEMA
    digest: str = ""

    @property
    def steps(self) -> int:
        """Steps of the run."""
        return sum(phase.steps for phase in self.executed.phases)

    def __repr__(self) -> str:
        return f"<Trace {self.executed.name}: {self.steps:,} steps>"

    def _repr_html_(self) -> str:
        from nmsim.traces.show import html

        return html(self)

    def workload(self, dtype: str | None = None) -> Workload:
        """The run as a workload that an engine accepts, its operands in `dtype` if given; see `nmsim.traces.replay`."""
        from nmsim.traces.replay import workload

        return workload(self, dtype)


def parts(trace: Trace) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The trace as plain data and one-dimensional little-endian arrays called `table.column`, without the digest."""
    work = trace.executed
    meta = {
        "format": FORMAT, "schema": trace.schema, "name": work.name, "check_every": trace.check_every,
        "layers": list(work.layers), "kinds": list(work.kinds), "notes": list(work.notes),
        "patterns": [str(p) for p in work.patterns],
        "phases": [[p.name, p.first_step, p.steps] for p in work.phases],
        "info": dict(trace.info),
    }  # fmt: skip
    tables = {
        "ops": work.columns, "checked": trace.checked, "evaluations": trace.evaluations, "intervals": trace.intervals
    }  # fmt: skip
    arrays = {
        f"{table}.{column}": np.asarray(tables[table][column], disk_dtype(kind))
        for table, columns in TABLES.items()
        for column, kind in columns.items()
    }
    return meta, arrays


def disk_dtype(kind: type) -> np.dtype:
    """The data type of a column in a file."""
    return np.dtype(kind).newbyteorder("<")


def content_digest(trace: Trace) -> str:
    """SHA-256, in hexadecimal, over the plain data as canonical JSON and each array with its name and length."""
    meta, arrays = parts(trace)
    total = hashlib.sha256(canonical_json(meta).encode())
    for name in sorted(arrays):
        total.update(f"\n{name} {arrays[name].dtype.str} {len(arrays[name])}\n".encode())
        total.update(arrays[name].tobytes())
    return total.hexdigest()


def canonical_json(data: Any) -> str:
    """The one JSON text of plain data; raises TraceError for what JSON does not have (NaN, objects)."""
    try:
        return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False, default=_item)
    except (TypeError, ValueError, RecursionError) as error:
        raise TraceError(f"the info of a trace must be plain JSON data: {error}") from None


def _item(value: Any) -> Any:
    """A NumPy number as Python's own."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} is not")
