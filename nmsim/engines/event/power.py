"""Power over time: the energy of each op, laid over the stretches in which its unit and its DMA were at work.

DMA in    what is read from DRAM and written into buffers, by the bytes of each transfer; what was fetched while
          the segment before ended, over the last cycles of that one
DMA out   what is read out of buffers and written to DRAM, by the bytes of each transfer
unit      all else, by the cycles of each piece; on a GPU, whose cores also wait, over all of the op's pieces
no span   what an op does that takes no cycle of its own, over the segment in which it runs
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil
from typing import TYPE_CHECKING, cast

import numpy as np

from nmsim.arch.schema import SystolicArch, TensorCoreArch
from nmsim.energy.account import STATIC, Key
from nmsim.energy.timeline import COLUMNS, PowerTrace, power_over_time
from nmsim.engines.event.machine import COMPUTE, LOAD, PHASES, STORE
from nmsim.engines.event.others import bytes_per_cycle
from nmsim.engines.event.timeline import DMA, LIMIT, REPEATED, frame

if TYPE_CHECKING:
    import pandas as pd

    from nmsim.engines.event.result import EventResult

DRAM = "DRAM"
"""The unit of all that DMA moves: DRAM, its interface, and the side of the buffers that faces it."""

Row = tuple[str, float, float, float]
"""A unit, the first and the last cycle of a stretch, the joules spent in it."""


def phase_of(key: Key) -> int:
    """The phase of a piece in which an action happens."""
    component, action, stream = key
    if component == "dram":
        return LOAD if action == "read" else STORE
    if component == "stream":
        return STORE if stream == "c" else LOAD
    if component == "buffers" and (action, stream) == ("read", "c"):
        return STORE
    if component == "buffers" and action == "write" and stream in ("a", "b", "metadata"):
        return LOAD
    return COMPUTE


def power(result: EventResult, limit: int = LIMIT) -> PowerTrace:
    """The power of every unit over time, each op executed once as in the timeline.

    Runs of more than `limit` spans have their equal periods as one stretch of mean power each. Dynamic energy is that
    of the account, the static power lasts from the first cycle to the last.
    """
    import pandas as pd

    arch = cast(SystolicArch | TensorCoreArch, result.arch)
    energy, spans = _by_phase(result), _spans(result, limit)
    share = _shares(result, spans)
    covered = np.zeros(energy.shape)
    np.add.at(covered, (spans["kind"], spans["op"]), share)
    last = result.executions[-1]
    end = last.start + last.outcome.cycles
    rest = _without_span(result, np.maximum(1 - covered, 0.0), energy, end)
    spent = pd.concat(
        [
            spans.assign(joules=energy[spans["kind"], spans["op"]] * share)[list(COLUMNS)],
            pd.DataFrame([*rest, (DRAM, 0, end, 0.0)], columns=list(COLUMNS)),
        ]
    )
    cap = arch.power.cap if isinstance(arch, TensorCoreArch) and arch.power is not None else None
    return power_over_time(spent, arch.clock, arch.energy.static, cap)


def _by_phase(result: EventResult) -> np.ndarray:
    """Joules of each op, executed once, by phase [phases, ops]; static power aside."""
    found = np.zeros((len(PHASES), len(result.workload)))
    account = result.require_account()
    for key in account.counts:
        if key != STATIC:
            found[phase_of(key)] += account.joules(key)
    return found


def _spans(result: EventResult, limit: int) -> pd.DataFrame:
    """The timeline's spans that last, with `op` the row in the result and `kind` the phase, DMA of all units as one.

    On a GPU the pieces of an op are one span, from its first start to its last end.
    """
    import pandas as pd

    spans = frame(result, limit, cut=False)
    spans = spans[spans["end_cycle"] > spans["start_cycle"]]
    ways = {"in": LOAD, "out": STORE}
    kind = np.array([ways.get(name.rpartition(DMA)[2], COMPUTE) for name in spans["unit"]], dtype=int)
    unit = np.where(kind == COMPUTE, spans["unit"], DRAM)
    spans = spans.assign(op=np.searchsorted(np.asarray(result.rows), spans["op"]), kind=kind, unit=unit)
    if not isinstance(result.arch, TensorCoreArch):
        return spans
    pieces = spans[spans["kind"] == COMPUTE].groupby("op", as_index=False)
    whole = {"start_cycle": "min", "end_cycle": "max", "unit": "first", "kind": "first", "phase": "first"}
    return pd.concat([spans[spans["kind"] != COMPUTE], pieces.agg(whole)])


def _shares(result: EventResult, spans: pd.DataFrame) -> np.ndarray:
    """The share of its op's energy of its phase that belongs to each span [spans]."""
    op, kind, size = (spans[name].to_numpy() for name in ("op", "kind", "bytes"))
    length = (spans["end_cycle"] - spans["start_cycle"]).to_numpy(float)
    work = np.where(kind == COMPUTE, length, np.nan_to_num(size))
    whole = np.zeros((len(PHASES), len(result.workload)))
    np.add.at(whole, (kind, op), work)
    streams = [result.streams[row] for row in np.asarray(result.rows)]
    many = (kind == COMPUTE) & (spans["phase"] == REPEATED).to_numpy()
    if many.any():  # such a span lasts longer than its unit works: it gets what the others leave of the op's cycles
        cycles = np.array([stream.total("cycles") for stream in streams], dtype=float)
        stretched = np.bincount(op[many], length[many], len(streams))
        left = np.maximum(cycles - (whole[COMPUTE] - stretched), 0.0)
        work[many] *= (left / np.where(stretched > 0, stretched, 1.0))[op[many]]
        whole[COMPUTE] = np.bincount(op[kind == COMPUTE], work[kind == COMPUTE], len(streams))
    whole[LOAD] = np.maximum(whole[LOAD], [stream.total("load") for stream in streams])
    return np.divide(work, whole[kind, op], out=np.zeros(len(work)), where=work > 0)


def _without_span(result: EventResult, missing: np.ndarray, energy: np.ndarray, end: int) -> Iterator[Row]:
    """The energy [phases, ops] of the shares that no span holds, `missing` [phases, ops]: that of bytes fetched ahead,
    which come last of all that moves in the segment before, and of what takes no cycle of its own."""
    arch = cast(SystolicArch | TensorCoreArch, result.arch)
    places = {int(row): place for place, row in enumerate(np.asarray(result.rows))}
    before: tuple[int, int] | None = None
    for execution in result.executions:
        start, stop = execution.start, execution.start + execution.outcome.cycles
        own = (start, stop) if stop > start else (0, end)
        for number, row in enumerate(execution.rows):
            place, stream = places[row], result.streams[row]
            spent = missing[:, place] * energy[:, place]
            ahead = own
            if number == 0 and before is not None:
                cycles = missing[LOAD, place] * stream.total("load") / bytes_per_cycle(arch)
                ahead = max(before[0], before[1] - ceil(cycles)), before[1]
            if spent[LOAD] > 0:
                yield (DRAM, *ahead, spent[LOAD])
            if (rest := spent.sum() - spent[LOAD]) > 0:
                yield (stream.unit, *own, rest)
        before = own
