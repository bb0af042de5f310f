"""The steps of a run as phases: runs of equal steps, with mask searches counted apart."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from nmsim.sparsity.pattern import Pattern
from nmsim.traces.rows import Row
from nmsim.traces.schema import MAX_ROWS, OPERANDS, TraceError
from nmsim.workloads.optable import Phase, Workload, WorkloadBuilder
from nmsim.workloads.training import phase_names

SEARCH = "PRUNE"


@dataclass
class Search:
    """A mask search: after how many other ops of the step, the row, its number among equal ones, how often."""

    after: int
    row: int
    nth: int = 0
    count: int = 0


@dataclass
class _Phase:
    """Equal steps: the rows of one of them, how often the operands of each were checked, and the mask searches."""

    program: list[int]
    first_step: int
    steps: int = 0
    checked: list[list[int]] = field(default_factory=list)
    searches: list[Search] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.checked = self.checked or [[0] * len(OPERANDS) for _ in self.program]
        self.members = frozenset(self.program)


class Run:
    """Collects the ops of each step, and sorts the steps into phases.

    Steps are compared by their ops without those of stage PRUNE: a mask that is refreshed every r steps does not end
    a phase, and its searches in a phase are one row with their number as `repeat`.
    """

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.steps = 0
        self._ids: dict[tuple[Any, ...], int] = {}
        self._phases: list[_Phase] = []
        self.discard_step()

    def discard_step(self) -> None:
        """Forget the ops since the last step ended."""
        self._program: list[int] = []
        self._checked: list[list[int]] = []
        self._searches: list[tuple[int, int]] = []

    @property
    def is_open(self) -> bool:
        """Whether ops were added since the last step ended."""
        return bool(self._program or self._searches)

    def intern(self, row: Row) -> int:
        """The index of the row in `rows`, appended if it is new."""
        index = self._ids.setdefault(tuple(row.values()), len(self.rows))
        if index == len(self.rows):
            self.rows.append(row)
        return index

    def was_in_last_step(self, index: int) -> bool:
        """Whether the step before had this row."""
        return bool(self._phases) and index in self._phases[-1].members

    def add(self, index: int, checked: list[int]) -> None:
        """An op of the present step; `checked` is how often each operand was searched."""
        if self.rows[index]["stage"] == SEARCH:
            self._searches.append((len(self._program), index))
        else:
            self._program.append(index)
            self._checked.append(checked)

    def end_step(self) -> None:
        """Add the step to the last phase, or begin one; raises TraceError for a step without ops."""
        if not self.is_open:
            raise TraceError(f"step {self.steps} ends without an op")
        if not self._phases or self._phases[-1].program != self._program:
            self._phases.append(_Phase(self._program, self.steps))
        phase = self._phases[-1]
        for total, checked in zip(phase.checked, self._checked, strict=True):
            total[:] = [x + y for x, y in zip(total, checked, strict=True)]
        merge(phase.searches, self._searches)
        phase.steps += 1
        self.steps += 1
        self.discard_step()

    def build(self, name: str) -> tuple[Workload, list[list[int]]]:
        """The op table, and how often operands a and b of each row were checked; raises TraceError within a step."""
        if self.is_open or not self._phases:
            raise TraceError("a trace ends with a step: end_step comes first")
        if sum(len(p.program) + len(p.searches) for p in self._phases) > MAX_ROWS:
            raise TraceError(f"the steps differ too often: {len(self._phases):,} phases, above {MAX_ROWS:,} rows")
        builder, checked = WorkloadBuilder(name), []
        for i, phase in enumerate(self._phases):
            for index, repeat, checks in _in_order(phase):
                builder.add(**self.rows[index], repeat=repeat, phase=i)
                checked.append(checks)
        names = phase_names([[self.rows[i] for i in phase.program] for phase in self._phases])
        spans = zip(names, self._phases, strict=True)
        return builder.build(phases=tuple(Phase(n, p.first_step, p.steps) for n, p in spans)), checked

    def state(self) -> dict[str, Any]:
        """All of it as plain data; raises TraceError within a step."""
        if self.is_open:
            raise TraceError("the state of a recorder is taken between steps; end_step comes first")
        rows = [{c: str(v) if isinstance(v, Pattern) else v for c, v in row.items()} for row in self.rows]
        phases = [
            [p.program, p.first_step, p.steps, p.checked, [[s.after, s.row, s.nth, s.count] for s in p.searches]]
            for p in self._phases
        ]
        return {"steps": self.steps, "rows": rows, "phases": phases}

    @classmethod
    def of(cls, state: dict[str, Any]) -> Run:
        """The run that `state()` was taken from."""
        run = cls()
        for row in state["rows"]:
            run.intern({c: Pattern.parse(v) if c.endswith("_pattern") else v for c, v in row.items()})
        run.steps = state["steps"]
        run._phases = [
            _Phase(program, first_step, steps, checked, [Search(*search) for search in searches])
            for program, first_step, steps, checked, searches in state["phases"]
        ]
        return run


def merge(known: list[Search], step: list[tuple[int, int]]) -> None:
    """Count the searches of a step, given as (after, row) in order; among the known they get the order they had in it.

    Searches that never share a step stay in the order in which they first came.
    """
    if step != [(s.after, s.row) for s in known]:
        _reorder(known, step)
    done = {(s.after, s.row, s.nth) for s in _numbered(step)}
    for search in known:
        search.count += (search.after, search.row, search.nth) in done


def _reorder(known: list[Search], step: list[tuple[int, int]]) -> None:
    """Append the searches of the step that are new, then put all of the step in its order into the places they have."""
    places = {(s.after, s.row, s.nth): i for i, s in enumerate(known)}
    found = []
    for new in _numbered(step):
        place = places.get((new.after, new.row, new.nth))
        found.append(known[place] if place is not None else new)
        if place is None:
            places[new.after, new.row, new.nth] = len(known)
            known.append(new)
    for place, search in zip(sorted(places[s.after, s.row, s.nth] for s in found), found, strict=True):
        known[place] = search


def _numbered(step: list[tuple[int, int]]) -> list[Search]:
    """The searches of a step, equal ones told apart by their number."""
    seen: Counter[tuple[int, int]] = Counter()
    found = []
    for key in step:
        found.append(Search(*key, seen[key]))
        seen[key] += 1
    return found


def _in_order(phase: _Phase) -> list[tuple[int, int, list[int]]]:
    """Row index, repeat and checks of the ops of a phase in order of execution."""
    ops = [(i, 1, (row, phase.steps, phase.checked[i])) for i, row in enumerate(phase.program)]
    searches = [(s.after, 0, (s.row, s.count, [0] * len(OPERANDS))) for s in phase.searches]
    return [op for _, _, op in sorted(searches + ops, key=lambda entry: entry[:2])]
