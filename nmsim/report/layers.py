"""The layers of a result as a report shows them: repeated blocks that cost the same stand together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nmsim.errors import UnsupportedError, unknown
from nmsim.results.result import Result
from nmsim.workloads.optable import STAGES

FEWEST = 3
"""Layers that cost the same are shown as one from this number on."""


@dataclass(frozen=True)
class Layers:
    """Rows of a report in order of execution: `names`, the layers each stands for (`members`, codes of the
    workload), and their `seconds` in each of the `parts` [rows, parts], repeats included."""

    names: tuple[str, ...]
    members: tuple[tuple[int, ...], ...]
    seconds: np.ndarray
    parts: tuple[str, ...] = STAGES

    @classmethod
    def of(cls, result: Result, by: str = "stage") -> Layers:
        """The layers of `result`, split by `stage` or by `cause`; raises UnsupportedError for another split.

        `blocks.0.fc` to `blocks.31.fc` become `blocks.*.fc (32x)` if they cost the same.
        """
        work = result.workload
        parts, split = _split(result, by)
        seconds = np.zeros((len(work.layers), len(parts)))
        np.add.at(seconds, work["layer"], split.T * work["repeat"][:, None])
        alike: dict[tuple[object, ...], list[int]] = {}
        for layer in dict.fromkeys(work["layer"].tolist()):
            cost = tuple(f"{value:.9g}" for value in seconds[layer])
            alike.setdefault((starred(work.layers[layer]), *cost), []).append(layer)
        groups = [
            part for group in alike.values() for part in ([group] if len(group) >= FEWEST else [[g] for g in group])
        ]
        groups.sort(key=lambda group: group[0])
        return cls(
            tuple(_name(work.layers[group[0]], len(group)) for group in groups),
            tuple(tuple(group) for group in groups),
            np.array([seconds[group].sum(axis=0) for group in groups]).reshape(-1, len(parts)),
            parts,
        )

    def largest(self, count: int) -> np.ndarray:
        """The `count` rows that take most time, most first, without those that take none."""
        totals = self.seconds.sum(axis=1)
        order = np.argsort(-totals, kind="stable")[:count]
        return order[totals[order] > 0]


def _split(result: Result, by: str) -> tuple[tuple[str, ...], np.ndarray]:
    """The names of the parts, and the seconds of each op in each [parts, ops]."""
    if by == "stage":
        return STAGES, np.where(
            result.workload["stage"] == np.arange(len(STAGES))[:, None], result.per_op("latency_s"), 0
        )
    if by == "cause":
        found = {n.removeprefix("cause."): v for n, v in result.columns.items() if n.startswith("cause.")}
        return tuple(found), np.array(list(found.values())) / result.arch.clock
    raise UnsupportedError(unknown("split of layers", by, ("stage", "cause")))


def starred(name: str) -> str:
    """The name with its first number, the index of a repeated block, replaced by a star."""
    parts = name.split(".")
    index = next((i for i, part in enumerate(parts) if part.isdecimal()), None)
    return ".".join("*" if i == index else part for i, part in enumerate(parts))


def _name(first: str, count: int) -> str:
    return f"{starred(first)} ({count}x)" if count > 1 else first
