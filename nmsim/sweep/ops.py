"""The ops of many workloads as one table of distinct ops, and how often each workload executes each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nmsim.engines.vector import pruned_online
from nmsim.sparsity.pattern import Pattern
from nmsim.workloads.optable import COLUMNS, Workload

_OWN = ("layer", "phase", "repeat", "note")
"""Columns that do not change what an op costs."""


@dataclass(frozen=True)
class Ops:
    """Distinct ops [ops], which of them have an operand that is pruned `online`, and `repeats` [workloads, ops]."""

    table: Workload
    online: np.ndarray
    repeats: np.ndarray

    def take(self, rows: np.ndarray) -> Ops:
        """These ops."""
        return Ops(self.table.select(rows), self.online[rows], self.repeats[:, rows])

    def of(self, workloads: np.ndarray) -> Ops:
        """The ops that these workloads have, with their repeats."""
        used = np.flatnonzero(self.repeats[workloads].any(axis=0))
        return Ops(self.table.select(used), self.online[used], self.repeats[np.ix_(workloads, used)])


def distinct(works: Sequence[Workload]) -> Ops:
    """The distinct ops of these workloads, all of which have the same `weight_group`."""
    patterns: dict[Pattern, int] = {}
    kinds: dict[str, int] = {}
    tables = [_recoded(work, patterns, kinds) for work in works]
    columns = {name: np.concatenate([table[name] for table in tables]) for name in COLUMNS}
    online = np.concatenate([pruned_online(work) for work in works])
    of_work = np.repeat(np.arange(len(works)), [len(work) for work in works])
    identity = np.stack([*(columns[name].astype(float) for name in COLUMNS if name not in _OWN), online.astype(float)])
    _, first, code = np.unique(identity, axis=1, return_index=True, return_inverse=True)
    repeats = np.zeros((len(works), len(first)))
    np.add.at(repeats, (of_work, code.reshape(-1)), columns["repeat"])
    own: dict[str, np.ndarray] = {name: np.zeros(len(first), COLUMNS[name]) for name in _OWN} | {
        "repeat": np.ones(len(first), np.int64)
    }
    kept = {name: values[first] for name, values in columns.items()} | own
    table = Workload("ops", kept, ("op",), tuple(kinds), tuple(patterns), weight_group=works[0].weight_group)
    return Ops(table, online[first], repeats)


def _recoded(work: Workload, patterns: dict[Pattern, int], kinds: dict[str, int]) -> dict[str, np.ndarray]:
    """The columns of a workload with its patterns and kinds as codes into the common tables, which grow."""
    pattern = np.array([patterns.setdefault(x, len(patterns)) for x in work.patterns], dtype=np.int16)
    kind = np.array([kinds.setdefault(x, len(kinds)) for x in work.kinds], dtype=np.int16)
    recoded = {"a_pattern": pattern[work["a_pattern"]], "b_pattern": pattern[work["b_pattern"]]}
    return {**work.columns, **recoded, "kind": kind[work["kind"]]}
