"""The recorder: a training loop tells it what it executes, and it keeps only what it could check."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

import nmsim
from nmsim.sparsity.detect import nonzeros
from nmsim.sparsity.pattern import Pattern
from nmsim.traces.phases import Run
from nmsim.traces.rows import Row, canonical, check, claims, prove
from nmsim.traces.schema import CHECKED, EVALUATIONS, INTERVALS, OPERANDS, Trace, TraceError, canonical_json
from nmsim.traces.schema import content_digest as digest_of
from nmsim.traces.state import dump_state, load_state, plain
from nmsim.workloads.optable import ROLES, STAGES

Key = tuple[str, str, str]
"""Layer, stage and operand."""


class Recorder:
    """Records a training run, op by op and step by step; `finish` gives its trace.

    A row may claim a pattern only together with the operand. The operand is searched for groups that break the
    pattern in every `check_every`-th step and whenever the row was not in the step before. `dtype` is the data type
    of operands that say none.
    """

    def __init__(self, check_every: int = 1, dtype: str = "fp16"):
        if check_every < 1:
            raise TraceError(f"check_every must be at least 1, not {check_every}")
        self.check_every, self.dtype = check_every, dtype
        self._ids: dict[Any, int] = {}
        self._run = Run()
        self._roles: dict[Key, str] = {}
        self._measured: list[tuple[Key, int, float]] = []  # in the open step: checks, density
        self._window: dict[Key, list[float]] = {}  # since the last interval: checks, sum of densities, measurements
        self._evaluations: list[list[float]] = []
        self._intervals: list[list[Any]] = []

    @property
    def steps(self) -> int:
        """Steps that have ended."""
        return self._run.steps

    def knows(self, layer: str, stage: str, operand: str) -> bool:
        """Whether a product with this operand was recorded, so that it may have intervals."""
        return (layer, stage, operand) in self._roles

    def op(
        self,
        layer: str,
        stage: str,
        kind: str = "gemm",
        *,
        a: Any = None,
        b: Any = None,
        a_along: int | None = None,
        b_along: int | None = None,
        **values: Any,
    ) -> None:
        """An executed op, with the values that `WorkloadBuilder.add` takes (but `repeat` and `phase`).

        `a`, `b`: the operands as arrays, needed where `a_pattern`, `b_pattern` is not dense, in the shape of the
        product: A [.., m, k] and B [.., k, n], `count` of them. With `a_along`, `b_along`, the array axis of the
        groups, the array may lie in another way and have the distinct elements only. Raises TraceError, and records
        nothing, if an operand is missing, is not that of the product or breaks its pattern.
        """
        index = self._intern(layer, stage, kind, values)
        row = self._run.rows[index]
        due = self.steps % self.check_every == 0 or not self._run.was_in_last_step(index)
        operands = {"a": (a, a_along), "b": (b, b_along)}
        for letter, (array, along) in operands.items():
            if claims(row, letter):
                prove(row, letter, array, along, due)
        checked = [int(due and claims(row, letter)) for letter in OPERANDS]
        for letter, count in zip(OPERANDS, checked, strict=True):
            if due and operands[letter][0] is not None:
                self._measure((layer, stage, letter), operands[letter][0], count)
        self._run.add(index, checked)

    def check(self, array: Any, pattern: Pattern | str, axis: int | None = None, what: str = "array") -> None:
        """Raise TraceError naming `what` if the array breaks the pattern along its axis `axis`."""
        check(array, pattern, axis, what)

    def pruned(self, layer: str, stage: str, operand: str, array: Any, pattern: Pattern, axis: int) -> None:
        """An operand that was pruned beside the products: checked, and its density that of the present interval.

        Raises TraceError if it breaks the pattern along its axis `axis`.
        """
        check(array, pattern, axis, f"{layer} {stage} operand {operand}, pruned")
        self._window.pop((layer, stage, operand), None)
        self._measured = [found for found in self._measured if found[0] != (layer, stage, operand)]
        self._measure((layer, stage, operand), array, 1)

    def end_step(self) -> None:
        """Close a step: one more of its phase if it did what the step before did, else the first of a new phase."""
        self._run.end_step()
        for key, checked, density in self._measured:
            window = self._window.setdefault(key, [0, 0.0, 0])
            self._window[key] = [window[0] + checked, window[1] + density, window[2] + 1]
        self._measured = []

    def discard_step(self) -> None:
        """Forget the ops since the last step ended: of a step that was not completed."""
        self._run.discard_step()
        self._measured = []

    def evaluation(
        self, step: int, train_loss: float, test_loss: float, test_accuracy: float, learning_rate: float
    ) -> None:
        """The state of training after `step` steps; steps must increase and not lie ahead."""
        last = self._evaluations[-1][0] if self._evaluations else -1
        if not last < step <= self.steps:
            raise TraceError(
                f"an evaluation at step {step}, but the last was at {last} and {self.steps} steps are done"
            )
        self._evaluations.append([step, *map(float, (train_loss, test_loss, test_accuracy, learning_rate))])

    def interval(
        self,
        layer: str,
        stage: str,
        operand: str,
        *,
        density: float | None = None,
        mask_flips: int = 0,
        mask_churn: float = math.nan,
        gradient_norm: float = math.nan,
        gradient_variance: float = math.nan,
        second_moment_variance: float = math.nan,
    ) -> None:
        """Close an interval of one operand of a layer's product at the present step, with statistics over it.

        `density` None is the mean of the densities of the arrays that `op` was given and searched since the last.
        Raises TraceError for an operand of which no product was recorded, and within a step.
        """
        key = (layer, stage, operand)
        if self._run.is_open:
            raise TraceError("an interval ends between steps; end_step comes first")
        if key not in self._roles:
            raise TraceError(f"{layer} {stage} operand {operand}: an interval of an operand that no product has had")
        checked, total, measured = self._window.pop(key, [0, 0.0, 0])
        if density is None:
            density = total / measured if measured else math.nan
        self._intervals.append([
            self.steps, layer, stage, operand, self._roles[key], float(density), int(mask_flips),
            float(mask_churn), float(gradient_norm), float(gradient_variance), float(second_moment_variance),
            int(checked),
        ])  # fmt: skip

    def finish(self, info: Mapping[str, Any], name: str | None = None) -> Trace:
        """The trace of the steps so far; `info` is plain JSON data, `name` by default the model of `info`.

        The version of nmsim is added to `info`. Raises TraceError within a step, before the first has ended, and
        for `info` that JSON cannot write.
        """
        full = plain(canonical_json({"nmsim": nmsim.__version__, "created_by": "nmsim", **info}))
        executed, checked = self._run.build(str(name or full.get("model") or "trace"))
        codes = {name: i for i, name in enumerate(executed.layers)}
        coded = [
            [step, codes[layer], STAGES.index(stage), OPERANDS.index(operand), ROLES.index(role), *rest]
            for step, layer, stage, operand, role, *rest in self._intervals
        ]
        trace = Trace(
            executed, _columns(checked, CHECKED), _columns(self._evaluations, EVALUATIONS),
            _columns(coded, INTERVALS), self.check_every, full,
        )  # fmt: skip
        return replace(trace, digest=digest_of(trace))

    def state(self) -> dict[str, np.ndarray]:
        """All that was recorded, as arrays for a checkpoint; raises TraceError within a step."""
        return dump_state({
            "check_every": self.check_every, "dtype": self.dtype, "run": self._run.state(),
            "roles": [[*key, role] for key, role in self._roles.items()],
            "window": [[*key, *values] for key, values in self._window.items()],
            "evaluations": self._evaluations, "intervals": self._intervals,
        })  # fmt: skip

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Become the recorder that `state()` was taken from; raises TraceError if it is no state of one."""
        data = load_state(state)
        try:
            fresh = Recorder(data["check_every"], data["dtype"])
            fresh._run = Run.of(data["run"])
            fresh._roles = {(layer, stage, letter): role for layer, stage, letter, role in data["roles"]}
            fresh._window = {(layer, stage, letter): values for layer, stage, letter, *values in data["window"]}
            fresh._evaluations, fresh._intervals = data["evaluations"], data["intervals"]
        except (KeyError, TypeError, ValueError) as error:
            raise TraceError(f"not the state of a recorder: {error!r}") from None
        self.__dict__ = fresh.__dict__

    def _intern(self, layer: str, stage: str, kind: str, values: Mapping[str, Any]) -> int:
        """The index of the row in the run; rows seen before are not built again."""
        try:
            key = (layer, stage, kind, tuple(sorted(values.items())))
            known = self._ids.get(key)
        except TypeError as error:
            raise TraceError(f"{layer} {stage}: a value that is no value of an op: {error}") from None
        if known is None:
            row = canonical(layer, stage, kind, values, self.dtype)
            known = self._ids[key] = self._run.intern(row)
            self._note_roles(row)
        return known

    def _note_roles(self, row: Row) -> None:
        if row["kind"] == "gemm":
            for letter in OPERANDS:
                self._roles.setdefault((row["layer"], row["stage"], letter), row[f"{letter}_role"])

    def _measure(self, key: Key, array: Any, checked: int) -> None:
        array = np.asarray(array)
        if array.size:
            self._measured.append((key, checked, np.count_nonzero(nonzeros(array)) / array.size))


def _columns(rows: Sequence[Sequence[Any]], columns: Mapping[str, type]) -> dict[str, np.ndarray]:
    return {c: np.array([row[i] for row in rows], dtype) for i, (c, dtype) in enumerate(columns.items())}
