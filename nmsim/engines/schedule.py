"""Schedules: how each product of a workload runs on a systolic array, chosen before a run, kept as a file to edit."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from nmsim.arch.capability import SIDES, skips
from nmsim.arch.load import load_arch
from nmsim.arch.schema import AnyArch, Dataflow, SystolicArch
from nmsim.engines import vector
from nmsim.engines.products import Products, gather
from nmsim.engines.systolic import DATAFLOWS, RESIDENT, Plan, choose
from nmsim.engines.tiling import ORDERS
from nmsim.errors import SpecError, UnsupportedError
from nmsim.files import atomic_write
from nmsim.specfile import Count, Document, Spec, read, validate
from nmsim.workloads.optable import COLUMNS, Workload

KIND = "schedule"
Pair = Annotated[list[Count], Field(min_length=2, max_length=2)]

_SAME = [name for name in COLUMNS if name not in ("phase", "repeat", "note", "ops_per_element")]
"""Columns in which two ops agree that are one product to a schedule."""


class Choice(Spec):
    """How one product C[m,n] = A[m,k]·B[k,n] runs."""

    layer: str
    stage: Literal["FF", "BP", "WU", "PRUNE", "UPDATE", "VECTOR"]
    part: Count = Field(default=1, description="which of several different products of the layer in this stage")
    product: Annotated[list[Count], Field(min_length=3, max_length=4)] = Field(
        description="m, n, k and, where not 1, how many; with the zeros that a strided convolution inserts, if executed"
    )
    runs: str = Field(description="`dense`, or the operand whose zeros are skipped and its pattern, as `B 2:8`")
    dataflow: Dataflow
    tile: Pair = Field(description="outputs kept on chip along m and n until their sums are complete")
    order: Literal["mn", "nm"] = Field(
        description="`mn`: tiles follow each other along a stripe of rows, `nm` along one of columns"
    )
    resident: list[Literal["A", "B"]] = Field(
        description="operands that stay in their buffer: with `mn` the stripe of A, all of B; with `nm` all of A, the "
        "stripe of B; one that does not is read anew for each tile of columns (A) or stripe of rows (B)"
    )
    interleave: Pair = Field(default=[1, 1], description="outputs that a unit takes in turn along m and n (os)")

    @property
    def key(self) -> tuple[str, str, int]:
        """Layer, stage and part, which name a product."""
        return self.layer, self.stage, self.part

    def __str__(self) -> str:
        return name_of(self.key)


class ScheduleFile(Spec):
    """A schedule as its file has it."""

    kind: Literal["schedule"]
    machine: str = Field(description="name of the machine that it was made for")
    workload: str = Field(default="", description="what was scheduled, for the reader")
    ops: list[Choice]


@dataclass(frozen=True)
class Schedule:
    """How each product of a workload runs; `document` tells where each choice stands in its file."""

    file: ScheduleFile
    document: Document

    @property
    def ops(self) -> list[Choice]:
        """A choice for each product."""
        return self.file.ops

    def text(self) -> str:
        """The schedule as YAML, a line for each product."""
        head = f"kind: schedule\nmachine: {_quoted(self.file.machine)}\nworkload: {_quoted(self.file.workload)}\n"
        return f"{HEADER}{head}ops:\n" + "".join(f"  - {{{_line(choice)}}}\n" for choice in self.ops)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file, whole or not at all; raises OSError."""
        atomic_write(path, self.text())


HEADER = """\
# How each product C[m,n] = A[m,k] B[k,n] runs; made by `nmsim schedule`, replayed by `nmsim run ... --schedule FILE`.
# tile: outputs along m and n that stay on chip; order: mn walks along a stripe of rows, nm of columns; resident:
# operands that stay in their buffer meanwhile; interleave: outputs that a unit takes in turn along m and n.
"""


def make_schedule(arch: AnyArch | str | os.PathLike[str], work: Workload) -> Schedule:
    """The fastest way found to run each product of `work`, from its sizes and patterns alone.

    `arch` is a machine from `load_arch`, or its name. Raises UnsupportedError for a machine that is no systolic array,
    or a data type that it cannot multiply.
    """
    machine = systolic_only(load_arch(arch) if isinstance(arch, str | os.PathLike) else arch)
    p = products_of(machine, work)
    keys, first, _ = entries(work)
    plan = choose(machine, p).take(first)
    data = {
        "kind": KIND, "machine": machine.name, "workload": _described(work),
        "ops": [_choice(key, p, row, plan, i) for i, (key, row) in enumerate(zip(keys, first, strict=True))],
    }  # fmt: skip
    return from_document(Document("<schedule>", data, {}))


def load_schedule(path: str | os.PathLike[str]) -> Schedule:
    """The schedule in a file; raises SpecError with every mistake that shows without machine and workload."""
    return from_document(read(path))


def from_document(document: Document) -> Schedule:
    """The schedule that a parsed file describes; raises SpecError."""
    kind = document.data.get("kind") if isinstance(document.data, dict) else None
    if kind != KIND:
        message = f"is {kind!r:.60}; a schedule has `kind: {KIND}`, and `nmsim schedule` makes one"
        raise SpecError([document.problem(("kind",), message)])
    return Schedule(validate(ScheduleFile, document), document)


def entries(work: Workload) -> tuple[list[tuple[str, str, int]], np.ndarray, np.ndarray]:
    """The different products of a workload: their keys, the first row of each, and the entry of each row.

    Rows are counted among the products alone. Ops that differ in their phase only are one product; different ones of
    a layer and stage are numbered from 1.
    """
    work = work.select(work.gemms)
    names = list(zip(work.names("layer"), work.names("stage"), strict=True))
    seen: dict[tuple[int, ...], int] = {}
    numbers: Counter[tuple[str, str]] = Counter()
    keys, first, entry = [], [], np.zeros(len(work), dtype=np.int64)
    for row, values in enumerate(zip(*(work[c].tolist() for c in _SAME), strict=True)):
        if values not in seen:
            seen[values] = len(seen)
            numbers[names[row]] += 1
            keys.append((*names[row], numbers[names[row]]))
            first.append(row)
        entry[row] = seen[values]
    return keys, np.array(first, dtype=np.int64), entry


def products_of(arch: SystolicArch, work: Workload) -> Products:
    """The products of a workload as the machine sees them."""
    rows = np.flatnonzero(work.gemms)
    return gather(arch, work.select(rows), skips(arch, work).take(rows), vector.pruned_online(work)[rows])


def systolic_only(arch: AnyArch) -> SystolicArch:
    """The machine; raises UnsupportedError unless it is a systolic array."""
    if not isinstance(arch, SystolicArch):
        raise UnsupportedError(
            f"{arch.name} is a {arch.kind} machine; schedules choose among the dataflows of a systolic array"
        )
    return arch


def pattern_of(p: Products, row: int, dense: bool = False) -> str:
    """What a product runs as: `dense`, or the operand that is skipped and its pattern, as `B 2:8`."""
    if dense or not p.side[row]:
        return "dense"
    return f"{SIDES[p.side[row]]} {p.pattern_n[row]:g}:{p.pattern_m[row]:g}"


def sizes(p: Products, row: int) -> list[int]:
    """m, n, k and, where it is not 1, the count of a product."""
    found = [int(x[row]) for x in (p.m, p.n, p.k, p.count)]
    return found if found[3] > 1 else found[:3]


def name_of(key: tuple[str, str, int]) -> str:
    """A product in words."""
    layer, stage, part = key
    return f"{layer} {stage}" + (f" part {part}" if part > 1 else "")


def _choice(key: tuple[str, str, int], p: Products, row: int, plan: Plan, i: int) -> dict[str, object]:
    layer, stage, part = key
    return {
        "layer": layer, "stage": stage, "part": part, "product": sizes(p, row),
        "runs": pattern_of(p, row, bool(plan.dense[i])), "dataflow": DATAFLOWS[plan.dataflow[i]],
        "tile": [int(plan.tile_m[i]), int(plan.tile_n[i])], "order": ORDERS[plan.order[i]],
        "resident": str(RESIDENT[plan.keep_a[i] + 2 * plan.keep_b[i]]).split(),
        "interleave": [int(plan.turns_m[i]), int(plan.turns_n[i])],
    }  # fmt: skip


def _described(work: Workload) -> str:
    """The workload and how it runs, in words."""
    how = (f"{name} {work.info[name]}" for name in ("recipe", "pattern", "batch", "dtype") if name in work.info)
    return ", ".join([work.name, *how])


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _line(choice: Choice) -> str:
    """The entries of a choice in YAML; defaults are left out."""
    shown = choice.model_dump(exclude_defaults=True)
    return ", ".join(f"{name}: {_value(name, value)}" for name, value in shown.items())


def _value(name: str, value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(str, value))}]"
    quote = isinstance(value, str) and (name == "layer" or " " in value)
    return _quoted(str(value)) if quote else str(value)
