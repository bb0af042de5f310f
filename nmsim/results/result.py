"""Result: what a simulation returns, a row per op with totals and breakdowns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from nmsim.errors import UnsupportedError, unknown
from nmsim.results.metrics import METRICS, get_metric
from nmsim.workloads.optable import ROLES, Workload

if TYPE_CHECKING:
    import pandas as pd

BREAKDOWNS = ("stage", "layer", "kind", "cause", "component", "operand", "phase")


class Machine(Protocol):
    """What a result remembers of the machine."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def clock(self) -> float:
        """Cycles per second."""

    @property
    def assumptions(self) -> tuple[str, ...]:
        """The numbers that no source vouches for, a line each."""


class Account(Protocol):
    """The actions behind the energy, by (component, action, stream)."""

    @property
    def area_mm2(self) -> float:
        """Estimated area of the machine, NaN where there is no estimate."""

    def totals(self, repeat: np.ndarray) -> dict[tuple[str, str, str], float]:
        """Joules by action of all ops, each `repeat` [ops] times."""

    def joules(self, key: tuple[str, str, str]) -> np.ndarray:
        """Joules [ops] of one action."""

    def record(self, repeat: np.ndarray) -> dict[str, Any]:
        """Plain data of every action, for a file."""

    @property
    def counts(self) -> Mapping[tuple[str, str, str], np.ndarray]:
        """How often each action happens [ops]."""


@dataclass(frozen=True, eq=False)
class Result:
    """The cost of a workload on a machine.

    `columns` hold a value per op [ops], for one execution of it; totals count an op as often as it repeats.
    Every name of the metric registry is an attribute: `latency_s`, `energy_j`, `macs_executed`, ...
    """

    arch: Machine
    workload: Workload
    engine: str
    columns: Mapping[str, np.ndarray]
    reasons: tuple[str, ...]
    reason_codes: np.ndarray
    energy_assumptions: tuple[str, ...] = ()
    account: Account | None = None

    def __getattr__(self, name: str) -> float:
        if name in METRICS:
            return self.metric(name)
        raise AttributeError(unknown("attribute of a result", name, METRICS))

    def __repr__(self) -> str:
        return f"<Result {self.workload.name} on {self.arch.name}: {self.latency_s:.4g} s>"

    def _repr_html_(self) -> str:
        from nmsim.results.show import html

        return html(self)

    def metric(self, name: str) -> float:
        """A metric of the whole result; raises UnsupportedError for an unknown one."""
        return get_metric(name).of(self)

    def per_op(self, name: str) -> np.ndarray:
        """A metric of each op [ops], executed once."""
        return get_metric(name).per_op(self)

    def total_of(self, values: np.ndarray) -> float:
        """Sum of a value per op [ops], each op counted as often as it is executed."""
        return float(values @ self.workload["repeat"].astype(float))

    def macs_dense_per_op(self) -> np.ndarray:
        """Dense multiply-accumulates of each op [ops], 0 for those that are not products."""
        w = self.workload
        return np.where(w.gemms, w["m"].astype(float) * w["n"] * w["k"] * w["count"], 0.0)

    def energy_columns(self) -> np.ndarray:
        """Joules per component and op [components, ops]."""
        return self._columns("energy.")

    def stream_columns(self, level: str) -> np.ndarray:
        """Bytes per stream (a, b, c, metadata) and op at a level, `dram` or `buffer` [4, ops]."""
        return self._columns(f"{level}.")

    def _columns(self, prefix: str) -> np.ndarray:
        return np.array([values for name, values in self.columns.items() if name.startswith(prefix)])

    def seconds_at_peak(self) -> np.ndarray:
        """Time that the executed multiply-accumulates of each op [ops] would take with every unit busy."""
        peak = self.columns["peak_macs"] * self.arch.clock
        return np.divide(self.columns["macs_executed"], peak, out=np.zeros(len(peak)), where=peak > 0)

    @cached_property
    def skipped_because(self) -> np.ndarray:
        """Why an op runs dense [ops], empty where its zeros are skipped or it has none."""
        return np.array(self.reasons, dtype=object)[self.reason_codes]

    def to_frame(self) -> pd.DataFrame:
        """A row per op in the order of the workload: what it is, its metrics, causes, traffic, energy and plan."""
        import pandas as pd

        frame = self.workload.to_frame()
        figures = {name: self.per_op(name) for name in METRICS}
        rest = {name: values for name, values in self.columns.items() if name not in figures}
        own = pd.DataFrame({**figures, **rest, "skipped_because": self.skipped_because})
        return pd.concat([frame, own], axis=1)

    def breakdown(self, by: str, metric: str | None = None) -> pd.DataFrame:
        """The result split into rows, each with its amount and its share; the amounts sum to the total.

        By `stage`, `layer`, `kind` or `phase`: `metric`, by default `latency_s`; by `cause`: the latency; by
        `component` or `action`: the energy; by `operand`: the DRAM bytes, or with `energy_j` the energy.
        """
        import pandas as pd

        if by in ("stage", "layer", "kind", "phase"):
            name = metric or "latency_s"
            if get_metric(name).total is not None:
                raise UnsupportedError(f"{name} is a ratio; its parts do not sum to a total")
            amounts = self._by_column(by, self.per_op(name) * self.workload["repeat"])
        elif by in ("action", "operand") and (metric == "energy_j" or (metric is None and by == "action")):
            name, amounts = "energy_j", self._by_action() if by == "action" else self._by_energy_operand()
        elif metric is None and by in BREAKDOWNS:
            name, amounts = self._by_part(by)
        else:
            raise UnsupportedError(unknown("breakdown", by, (*BREAKDOWNS, "action")))
        total = sum(amounts.values())
        shares = [value / total if total else 0.0 for value in amounts.values()]
        return pd.DataFrame({name: list(amounts.values()), "share": shares}, index=pd.Index(list(amounts), name=by))

    def _by_column(self, column: str, values: np.ndarray) -> dict[str, float]:
        codes = self.workload[column]
        labels = [p.name for p in self.workload.phases] if column == "phase" else None
        order = list(dict.fromkeys(codes.tolist()))
        sums = np.bincount(codes, weights=values)
        names = labels or dict(zip(codes.tolist(), self.workload.names(column), strict=True))
        amounts: dict[str, float] = {}
        for code in order:
            amounts[str(names[code])] = amounts.get(str(names[code]), 0.0) + float(sums[code])
        return amounts

    def _by_part(self, by: str) -> tuple[str, dict[str, float]]:
        if by == "cause":
            return "latency_s", {n: self.total_of(v) / self.arch.clock for n, v in self._parts("cause.").items()}
        if by == "component":
            return "energy_j", {n: self.total_of(v) for n, v in self._parts("energy.").items()}
        amounts: dict[str, float] = {}
        for stream, values in self._parts("dram.").items():
            roles = np.full(len(values), "metadata") if stream == "metadata" else self.workload.names(f"{stream}_role")
            for role in sorted(set(roles[values > 0])):
                amounts[role] = amounts.get(role, 0.0) + self.total_of(np.where(roles == role, values, 0.0))
        return "dram_bytes", amounts

    def require_account(self) -> Account:
        """The actions behind the energy; raises UnsupportedError where the engine counted none."""
        if self.account is None:
            raise UnsupportedError(f"the {self.engine} engine counted no actions")
        return self.account

    def _by_action(self) -> dict[str, float]:
        amounts: dict[str, float] = {}
        for (component, action, _), joules in self.require_account().totals(self.workload["repeat"]).items():
            amounts[f"{component}: {action}"] = amounts.get(f"{component}: {action}", 0.0) + joules
        return amounts

    def _by_energy_operand(self) -> dict[str, float]:
        """Joules by the role of the operand that an action serves; what serves none under its component."""
        amounts: dict[str, float] = {}
        account = self.require_account()
        for key in account.counts:
            joules = account.joules(key) * self.workload["repeat"]
            for role, part in self._by_role(key[2], key[0], joules):
                amounts[role] = amounts.get(role, 0.0) + part
        return amounts

    def _by_role(self, stream: str, component: str, joules: np.ndarray) -> Iterator[tuple[str, float]]:
        if stream not in ("a", "b", "c"):
            yield {"metadata": "metadata", "psum": "partial sum"}.get(stream, component), float(joules.sum())
            return
        roles = self.workload[f"{stream}_role"]
        sums = np.bincount(roles, weights=joules, minlength=len(ROLES))
        names = [f"operand {stream.upper()}", *(role.replace("_", " ") for role in ROLES[1:])]
        yield from ((name, float(part)) for name, part in zip(names, sums, strict=True) if part)

    def _parts(self, prefix: str) -> dict[str, np.ndarray]:
        return {n.removeprefix(prefix): v for n, v in self.columns.items() if n.startswith(prefix)}

    def speedup_over(self, other: Result) -> float:
        """How many times shorter this result's latency is than that of `other`."""
        mine, others = self.metric("latency_s"), other.metric("latency_s")
        return others / mine if mine else float("inf")

    def timeline(self) -> pd.DataFrame:
        """Start and end of every tile; only the event engine keeps it."""
        raise UnsupportedError('a timeline needs the event engine: simulate(…, engine="event")')

    @property
    def assumptions(self) -> tuple[str, ...]:
        """The numbers that no source vouches for, a line each."""
        return (*self.arch.assumptions, *self.energy_assumptions)
