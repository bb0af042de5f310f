"""The ops of many workloads as one table of distinct ops, and how often each workload executes each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from nmsim.engines.vector import pruned_online
from nmsim.sparsity.pattern import Pattern
from nmsim.workloads.optable import COLUMNS, Workload

_OWN = ("layer", "phase", "repeat", "note")
"""Columns that do not change what an op costs."""


@dataclass(frozen=True)
class Ops:
    """Distinct ops [ops], and which of them have an operand that is pruned `online`.

    `parts` has for each workload its ops, in the order in which it first executes them, and how often it does: sums
    over them do not depend on what other workloads there are.
    """

    table: Workload
    online: np.ndarray
    parts: tuple[tuple[np.ndarray, np.ndarray], ...] = ()

    def take(self, rows: np.ndarray) -> Ops:
        """These ops, given once each."""
        place = np.full(len(self.table), -1)
        place[rows] = np.arange(len(rows))
        parts = ((place[ops], repeats) for ops, repeats in self.parts)
        kept = tuple((ops[ops >= 0], repeats[ops >= 0]) for ops, repeats in parts)
        return Ops(self.table.select(rows), self.online[rows], kept)

    def of(self, workloads: np.ndarray) -> Ops:
        """These workloads, with the ops that they have."""
        parts = tuple(self.parts[code] for code in workloads.tolist())
        return replace(self, parts=parts).take(np.unique(np.concatenate([ops for ops, _ in parts])))


def distinct(works: Sequence[Workload]) -> Ops:
    """The distinct ops of these workloads, all of which have the same `weight_group`."""
    patterns: dict[Pattern, int] = {}
    kinds: dict[str, int] = {}
    tables = [_recoded(work, patterns, kinds) for work in works]
    columns = {name: np.concatenate([table[name] for table in tables]) for name in COLUMNS}
    online = np.concatenate([pruned_online(work) for work in works])
    identity = np.stack([*(columns[name].astype(float) for name in COLUMNS if name not in _OWN), online.astype(float)])
    _, first, code = np.unique(identity, axis=1, return_index=True, return_inverse=True)
    ends = np.cumsum([len(work) for work in works])[:-1]
    each = zip(np.split(code.reshape(-1), ends), np.split(columns["repeat"], ends), strict=True)
    parts = tuple(_counted(ops, repeats) for ops, repeats in each)
    own: dict[str, np.ndarray] = {name: np.zeros(len(first), COLUMNS[name]) for name in _OWN} | {
        "repeat": np.ones(len(first), np.int64)
    }
    kept = {name: values[first] for name, values in columns.items()} | own
    table = Workload("ops", kept, ("op",), tuple(kinds), tuple(patterns), weight_group=works[0].weight_group)
    return Ops(table, online[first], parts)


def _counted(ops: np.ndarray, repeats: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each op once, in the order of first appearance, and the sum of its repeats."""
    distinct_ops, first, code = np.unique(ops, return_index=True, return_inverse=True)
    order = np.argsort(first)
    return distinct_ops[order], np.bincount(code, weights=repeats)[order]


def _recoded(work: Workload, patterns: dict[Pattern, int], kinds: dict[str, int]) -> dict[str, np.ndarray]:
    """The columns of a workload with its patterns and kinds as codes into the common tables, which grow."""
    pattern = np.array([patterns.setdefault(x, len(patterns)) for x in work.patterns], dtype=np.int16)
    kind = np.array([kinds.setdefault(x, len(kinds)) for x in work.kinds], dtype=np.int16)
    recoded = {"a_pattern": pattern[work["a_pattern"]], "b_pattern": pattern[work["b_pattern"]]}
    return {**work.columns, **recoded, "kind": kind[work["kind"]]}
