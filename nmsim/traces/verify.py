"""The laws that every true trace obeys: of its ops here, of its measurements in `nmsim.traces.measurements`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from nmsim.errors import NmsimError
from nmsim.sparsity.recipe import Recipe, get_recipe
from nmsim.traces.measurements import check_evaluations, check_intervals
from nmsim.traces.rows import AXES
from nmsim.traces.schema import INFO_KEYS, OPERANDS, Trace, content_digest
from nmsim.workloads.optable import AXES as AXIS_NAMES
from nmsim.workloads.optable import ROLES, STAGES, Workload


def verify(trace: Trace) -> list[str]:
    """The laws that the trace breaks, each with the first place where it does; empty for a true trace."""
    return [message for law in LAWS for message in law(trace)]


def check_digest(trace: Trace) -> Iterator[str]:
    """The contents are those that were recorded."""
    if content_digest(trace) != trace.digest:
        yield "digest: the contents are not those that were recorded"


def check_info(trace: Trace) -> Iterator[str]:
    """The trace says which run it is of."""
    if missing := [key for key in INFO_KEYS if key not in trace.info]:
        yield f"info: {', '.join(missing)} is missing"


def check_phases(trace: Trace) -> Iterator[str]:
    """Phases follow each other without a gap up to the last step of the run, and the ops are in their order."""
    at, phase = 0, trace.executed["phase"]
    for p in trace.executed.phases:
        if p.first_step != at:
            yield f"phases: {p.name!r} begins at step {p.first_step}, but the phases before it have {at} steps"
            break
        at += p.steps
    if trace.info.get("steps", trace.steps) != trace.steps:
        yield f"phases: they have {trace.steps} steps, but the run {trace.info['steps']}"
    if np.any(np.diff(phase) < 0):
        yield f"phases: op {int(np.argmax(np.diff(phase) < 0)) + 1} belongs to a phase before that of the op above it"
    if absent := sorted(set(range(len(trace.executed.phases))) - set(phase.tolist())):
        yield f"phases: {trace.executed.phases[absent[0]].name!r} has no op"


def check_repeats(trace: Trace) -> Iterator[str]:
    """An op is executed once in each step of its phase; a mask search at most that often."""
    work = trace.executed
    steps = np.array([p.steps for p in work.phases])[work["phase"]]
    wrong = np.where(work.is_stage("PRUNE"), work["repeat"] > steps, work["repeat"] != steps)
    yield from _first(work, wrong, "repeats", lambda i: f"executed {work['repeat'][i]} times in {steps[i]} steps")


def check_layers(trace: Trace) -> Iterator[str]:
    """Every layer has an op."""
    unused = np.setdiff1d(np.arange(len(trace.executed.layers)), trace.executed["layer"])
    if len(unused):
        yield f"layers: {trace.executed.layers[unused[0]]!r} has no op"


def check_elements(trace: Trace) -> Iterator[str]:
    """Operands are no larger than their product reads; a mask search keeps no more than it reads.

    A strided convolution does not read all of its input, so A of FF and WU and C of BP have no upper bound here.
    """
    work = trace.executed
    m, n, k, count = (work[c].astype(float) for c in ("m", "n", "k", "count"))
    shapes = {"a": m * k * count, "b": k * n * count, "c": m * n * count}
    free = {"a": work.is_stage("FF", "WU"), "b": np.zeros(len(work), bool), "c": work.is_stage("BP")}
    for letter, most in shapes.items():
        sizes = work[f"{letter}_elements"]
        wrong = (sizes < 0) | (work.gemms & ((sizes < 1) | ((sizes > most) & ~free[letter])))
        yield from _first(work, wrong, "elements", partial(_size_text, letter, sizes, most))
    kept, read = work["c_elements"], work["a_elements"]
    wrong = work.is_stage("PRUNE") & ((kept > read) | (read != m * n))
    yield from _first(work, wrong, "elements", lambda i: f"{kept[i]:,} kept of {read[i]:,} in {int(m[i] * n[i]):,}")
    yield from _first(work, work["m_inserted"] < work["m"], "elements", lambda i: "m_inserted is less than m")


def _size_text(letter: str, sizes: np.ndarray, most: np.ndarray, i: int) -> str:
    return f"{letter} has {sizes[i]:,} elements, its product {int(most[i]):,}"


# What a layer's products share: (stage, size) = (stage, size) of the forward product.
_SHARED = {
    ("BP", "a_elements"): "c_elements", ("BP", "b_elements"): "b_elements", ("BP", "c_elements"): "a_elements",
    ("WU", "a_elements"): "a_elements", ("WU", "b_elements"): "c_elements", ("WU", "c_elements"): "b_elements",
}  # fmt: skip


def check_shapes(trace: Trace) -> Iterator[str]:
    """The products of a layer with a weight have equally many multiply-accumulates and share their operands."""
    work = trace.executed
    weight = ROLES.index("weight")
    groups: dict[tuple[int, int], dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for i in np.flatnonzero(work.gemms & work.is_stage("FF", "BP", "WU")).tolist():
        groups[int(work["phase"][i]), int(work["layer"][i])][STAGES[work["stage"][i]]].append(i)
    for stages in groups.values():
        if len(stages["FF"]) != 1 or work["b_role"][stages["FF"][0]] != weight:
            continue
        for stage in ("BP", "WU"):
            if len(stages[stage]) == 1 and (why := _unlike(work, stages["FF"][0], stages[stage][0])):
                yield f"shapes: {_name(work, stages[stage][0])}: {why}"
                return


def _unlike(work: Workload, forward: int, other: int) -> str:
    macs = [int(np.prod([int(work[c][i]) for c in ("m", "n", "k", "count")], dtype=object)) for i in (forward, other)]
    if macs[0] != macs[1]:
        return f"{macs[1]:,} multiply-accumulates, but {macs[0]:,} in FF"
    for (stage, column), of_forward in _SHARED.items():
        if stage == STAGES[work["stage"][other]] and work[column][other] != work[of_forward][forward]:
            return f"{column} is {work[column][other]:,}, but {of_forward} of FF {work[of_forward][forward]:,}"
    return ""


def check_claims(trace: Trace) -> Iterator[str]:
    """A pattern runs along an axis of its operand and was checked as often as the trace says; else nothing was."""
    for letter in OPERANDS:
        yield from _claims(trace, letter)


def _claims(trace: Trace, letter: str) -> Iterator[str]:
    work, checked = trace.executed, trace.checked[letter]
    search, repeat, axes = work.is_stage("PRUNE"), work["repeat"], work[f"{letter}_axis"]
    sparse = _sparse(work)[work[f"{letter}_pattern"]] & ~search
    allowed = [AXIS_NAMES.index(axis) for axis in AXES[letter]]
    wrong = np.where(sparse, ~np.isin(axes, allowed) | ~work.gemms, (axes != 0) & ~search)
    yield from _first(work, wrong, "claims", lambda i: f"operand {letter} along {AXIS_NAMES[axes[i]]!r}")
    wrong = (checked > repeat) | np.where(sparse, checked < repeat // trace.check_every, checked != 0)
    yield from _first(work, wrong, "claims", lambda i: f"{letter} checked {checked[i]} times in {repeat[i]} executions")
    yield from _unchecked(work, letter, sparse, checked)


def _sparse(work: Workload) -> np.ndarray:
    """For each entry of `patterns`, whether it is not dense."""
    return np.array([not pattern.is_dense for pattern in work.patterns])


def _unchecked(work: Workload, letter: str, sparse: np.ndarray, checked: np.ndarray) -> Iterator[str]:
    """A claim may go unchecked in a short phase only if it was checked in another."""
    seen: dict[tuple[int, ...], int] = defaultdict(int)
    columns = ("layer", "stage", f"{letter}_pattern", f"{letter}_axis")
    for i in np.flatnonzero(sparse).tolist():
        seen[tuple(int(work[c][i]) for c in columns)] += int(checked[i])
    if bad := next((key for key, total in seen.items() if total == 0), None):
        yield f"claims: {work.layers[bad[0]]} {STAGES[bad[1]]}: operand {letter} was never checked"


def check_searches(trace: Trace) -> Iterator[str]:
    """A recipe that finds masks during training has searches for what it prunes; another has none."""
    recipe = described(trace)
    if recipe is None:
        return
    work, start = trace.executed, _start(trace)
    if not recipe.prunes and (sparse := [p for p in work.patterns if not p.is_dense]):
        yield f"searches: recipe {recipe.name!r} prunes nothing, but there is a pattern {sparse[0]}"
    if not recipe.growth and not any(p.refresh for p in recipe.prunes):
        most = 1 if recipe.prunes and start else 0
        wrong = work.is_stage("PRUNE") & (work["repeat"] > most)
        yield from _first(work, wrong, "searches", lambda i: f"{work['repeat'][i]} by a recipe with {most} for a mask")
    if recipe.growth is None:
        yield from _without_search(trace, recipe, start)


def described(trace: Trace) -> Recipe | None:
    """The recipe of the run: as the trace describes it, or of the library by its name; None where neither is one."""
    try:
        if fields := trace.info.get("described"):
            return Recipe.model_validate(fields, strict=False)
        return get_recipe(str(trace.info.get("recipe")))
    except (NmsimError, ValueError):
        return None


def _start(trace: Trace) -> int:
    """The step from which on some operand has a pattern; the steps of the run if none has."""
    work = trace.executed
    sparse = _sparse(work)
    claim = work.gemms & (sparse[work["a_pattern"]] | sparse[work["b_pattern"]])
    return min((work.phases[p].first_step for p in np.unique(work["phase"][claim])), default=trace.steps)


def _without_search(trace: Trace, recipe: Recipe, start: int) -> Iterator[str]:
    """The first pruned operand whose mask was never searched; `refresh` of `info` replaces the recipe's period."""
    work = trace.executed
    sparse = _sparse(work)
    found = {(int(work["layer"][i]), ROLES[work["a_role"][i]]) for i in np.flatnonzero(work.is_stage("PRUNE"))}
    for prune in recipe.prunes:
        if prune.stage == "BP" and prune.mask == "transposable":
            continue  # its mask is that of FF
        period: Any = trace.info.get("refresh", prune.refresh)
        if not isinstance(period, int) or trace.steps - start < period or not (prune.refresh or start):
            continue
        for letter in OPERANDS:
            rows = work.is_stage(prune.stage) & (work[f"{letter}_role"] == ROLES.index(prune.operand))
            for layer in np.unique(work["layer"][rows & sparse[work[f"{letter}_pattern"]]]).tolist():
                if (layer, prune.operand) not in found:
                    name = work.layers[layer]
                    yield f"searches: {name}: no mask was searched for the {prune.operand} of {prune.stage}"
                    return


def _first(work: Workload, wrong: np.ndarray, law: str, what: Callable[[int], str]) -> Iterator[str]:
    """The message for the first op that is wrong."""
    if np.any(wrong):
        i = int(np.argmax(wrong))
        yield f"{law}: {_name(work, i)}: {what(i)}"


def _name(work: Workload, i: int) -> str:
    return f"op {i} ({work.layers[work['layer'][i]]} {STAGES[work['stage'][i]]})"


LAWS: tuple[Callable[[Trace], Iterator[str]], ...] = (
    check_digest, check_info, check_phases, check_repeats, check_layers, check_elements, check_shapes, check_claims,
    check_searches, check_evaluations, check_intervals,
)  # fmt: skip
