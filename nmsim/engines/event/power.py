"""Power over time: the energy of each op, laid over the stretches in which its unit and its DMA were at work.

DMA in    what is read from DRAM and written into buffers, by the bytes of each transfer; of what was fetched while
          the segment before ended the time is not kept: it fills the bandwidth that this one leaves
DMA out   what is read out of buffers and written to DRAM, by the bytes of each transfer
unit      all else, by the cycles of each piece; on a GPU, whose cores also wait, over all of the op's pieces
no span   what an op does that takes no cycle of its own, over the segment in which it runs
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from nmsim.arch.schema import SystolicArch, TensorCoreArch
from nmsim.energy.account import STATIC, Key
from nmsim.energy.timeline import COLUMNS, PowerTrace, power_over_time
from nmsim.engines.event.others import bytes_per_cycle
from nmsim.engines.event.spans import COMPUTE, LOAD, PHASES, STORE
from nmsim.engines.event.timeline import DMA, LIMIT, REPEATED, frame

if TYPE_CHECKING:
    import pandas as pd

    from nmsim.engines.event.result import EventResult

DRAM = "DRAM"
"""The unit of all that DMA moves: DRAM, its interface, and the side of the buffers that faces it."""

ROUNDING = 1e-9
"""Shares of an op's energy below this are what rounding leaves."""

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
    rest = _without_span(
        result, np.where(covered < 1 - ROUNDING, 1 - covered, 0.0) * energy, _Free.of(spans, bytes_per_cycle(arch)), end
    )
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


def _without_span(result: EventResult, energy: np.ndarray, dram: _Free, end: int) -> Iterator[Row]:
    """What no span holds of the energy [phases, ops]: that of bytes fetched ahead, and of what takes no cycle."""
    places = {int(row): place for place, row in enumerate(np.asarray(result.rows))}
    before: tuple[int, int] | None = None
    for execution in result.executions:
        start, stop = execution.start, execution.start + execution.outcome.cycles
        own = (start, stop) if stop > start else (0, end)
        for row in execution.rows:
            loads = energy[LOAD, places[row]]
            if loads > 0:
                yield from dram.filled(*(before or own), loads)
            if (rest := energy[:, places[row]].sum() - loads) > 0:
                yield (result.streams[row].unit, *own, rest)
        before = own


@dataclass(frozen=True)
class _Free:
    """The bandwidth of DRAM that transfers leave: bytes [steps] between cycles [steps + 1]."""

    edges: np.ndarray
    room: np.ndarray

    @classmethod
    def of(cls, spans: pd.DataFrame, per_cycle: float) -> _Free:
        """What the transfers among `spans` leave of `per_cycle` bytes per cycle."""
        moved = spans[spans["kind"] != COMPUTE]
        start, end, size = (moved[name].to_numpy(float) for name in ("start_cycle", "end_cycle", "bytes"))
        edges, place = np.unique(np.concatenate([start, end]), return_inverse=True)
        rate, known = size / (end - start), len(start)
        change = np.bincount(place[:known], rate, len(edges)) - np.bincount(place[known:], rate, len(edges))
        return cls(edges, np.maximum(per_cycle - np.cumsum(change)[:-1], 0.0) * np.diff(edges))

    def filled(self, start: int, stop: int, joules: float) -> Iterator[Row]:
        """The joules spread over what is free from `start` to `stop`; evenly where nothing is."""
        first, last = np.searchsorted(self.edges, (start, stop))
        room = self.room[first : max(last, first)]
        if not room.any():
            yield (DRAM, start, stop, joules)
            return
        for step in np.flatnonzero(room):
            edges = self.edges[first + step : first + step + 2]
            yield (DRAM, *edges.tolist(), joules * float(room[step] / room.sum()))
