"""Segments: which ops may run side by side, by what each needs of the others.

Ops of the forward pass, input gradients and element-wise work form a chain, each waiting for the one before. Beside
it run, as far as units are free:

- a weight gradient (WU), which nothing waits for but its update, with the input gradient of its layer before it and
  the element-wise work after it;
- the update of a layer and the search of its new masks (pre-generation of sparse weights), beside a later weight
  gradient.

A segment ends when all its ops have ended. On a GPU kernels follow each other, and every op is a segment.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from nmsim.workloads.optable import STAGES, Workload

AFTERWARDS = ("UPDATE", "PRUNE")


@dataclass
class Group:
    """Rows of the workload in a segment: by thread, and what each waits for among the others of the segment."""

    threads: dict[str, list[int]] = field(default_factory=dict)
    after: dict[int, list[int]] = field(default_factory=dict)
    chain: int = -1

    def add(self, thread: str, row: int, after: list[int]) -> None:
        """Append a row to a thread."""
        self.threads.setdefault(thread, []).append(row)
        self.after[row] = after

    @property
    def rows(self) -> list[int]:
        """All rows, those of the array first, as their time is accounted."""
        order = sorted(self.threads, key=lambda name: name != "array")
        return [row for name in order for row in self.threads[name]]


def groups(work: Workload, units: list[str], overlap: bool) -> list[Group]:
    """The segments of a workload whose ops run on these `units` [ops], in order."""
    threads = ["array" if unit in ("array", "cores") else unit if unit == "SORE" else "lanes" for unit in units]
    if not overlap:
        return [Group({threads[row]: [row]}, {row: []}) for row in range(len(work))]
    found: list[Group] = []
    for phase in dict.fromkeys(work["phase"].tolist()):
        found += _Phase(work, np.flatnonzero(work["phase"] == phase).tolist(), threads).groups()
    return found


class _Phase:
    """The ops of one phase, a step that is executed over and over."""

    def __init__(self, work: Workload, rows: list[int], threads: list[str]):
        self.threads = threads
        self.stage = [STAGES[code] for code in work["stage"].tolist()]
        self.layer, self.repeat = work["layer"].tolist(), work["repeat"].tolist()
        first = next((i for i, row in enumerate(rows) if self.stage[row] == "UPDATE"), len(rows))
        self.chain = rows[:first]
        self.updates: dict[int, list[int]] = {}
        for row in rows[first:]:
            if self.stage[row] in AFTERWARDS:
                self.updates.setdefault(self.layer[row], []).append(row)
            else:
                self.chain.append(row)

    def groups(self) -> list[Group]:
        found = self._chain()
        last = {self.layer[row]: number for number, group in enumerate(found) for row in group.rows}
        ready = sorted(self.updates, key=lambda layer: last.get(layer, -1))
        for number, group in enumerate(found):
            if not any(self.stage[row] == "WU" for row in group.rows):
                continue
            layer = next((x for x in ready if last.get(x, -1) < number and self._as_often(x, group)), None)
            if layer is not None:
                ready.remove(layer)
                self._attach(group, layer)
        if ready:
            rest = [row for layer in self.updates if layer in ready for row in self.updates[layer]]
            found += self._rest(rest)
        return found

    def _chain(self) -> list[Group]:
        found: list[Group] = []
        for row in self.chain:
            group = found[-1] if found else None
            stages = [self.stage[r] for r in group.rows] if group else []
            if group and self.stage[row] == "WU" and self.threads[row] == "array" and self._free(group):
                group.add("array", row, [])
            elif group and self.stage[row] == "VECTOR" and "WU" in stages and self.threads[row] == "lanes":
                group.add("lanes", row, [group.chain] if group.chain >= 0 else [])
                group.chain = row
            else:
                found.append(Group({self.threads[row]: [row]}, {row: []}, -1 if self.stage[row] == "WU" else row))
        return found

    def _free(self, group: Group) -> bool:
        """Whether a weight gradient needs nothing of the segment: it holds but products of the backward pass."""
        return all(self.stage[row] in ("BP", "WU") and self.threads[row] == "array" for row in group.rows)

    def _as_often(self, layer: int, group: Group) -> bool:
        """Whether the update of a layer is executed as often as the segment."""
        return {self.repeat[row] for row in self.updates[layer]} == {self.repeat[row] for row in group.rows}

    def _attach(self, group: Group, layer: int) -> None:
        """Run the update of a layer, then its mask searches, beside the segment."""
        for row in self.updates[layer]:
            updated = [r for r in group.after if self.stage[r] == "UPDATE" and self.layer[r] == layer]
            group.add(self.threads[row], row, updated if self.stage[row] == "PRUNE" else [])

    def _rest(self, rows: list[int]) -> list[Group]:
        """Updates that found no room: side by side with the searches, those of one number of repeats at a time."""
        found = []
        for repeat in dict.fromkeys(self.repeat[row] for row in rows):
            group = Group()
            for row in rows:
                if self.repeat[row] == repeat:
                    updated = [r for r in group.after if self.stage[r] == "UPDATE" and self.layer[r] == self.layer[row]]
                    group.add(self.threads[row], row, updated if self.stage[row] == "PRUNE" else [])
            found.append(group)
        return found
