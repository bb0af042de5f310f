"""A schedule held against the workload and the machine it shall run on: every mistake, or the plan of every product."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nmsim.arch.capability import SIDES
from nmsim.arch.schema import ACCUMULATOR_BYTES, AnyArch, SystolicArch, usable
from nmsim.engines.products import Operand, Products, dense_where, take
from nmsim.engines.schedule import (
    Choice,
    Schedule,
    entries,
    name_of,
    pattern_of,
    products_of,
    sizes,
    systolic_only,
)
from nmsim.engines.systolic import DATAFLOWS, Plan, skips_streamed_zeros
from nmsim.engines.tiling import ORDERS, footprint
from nmsim.errors import Problem, SpecError, unknown
from nmsim.workloads.optable import Workload

MOST = 10
"""Mistakes shown of a schedule; one for another workload has one in every line."""

Key = tuple[str, str, int]
Mistake = tuple[str, str]
"""The field of a choice that is wrong, and what is wrong with it."""


def plan(arch: AnyArch, work: Workload, schedule: Schedule) -> Plan:
    """The plan of each product of `work`, in their order.

    Raises SpecError with every mistake: products that are missing or not there, other sizes, dataflows that the
    machine has not, tiles and residents that fit no buffer; UnsupportedError for a machine without dataflows.
    """
    machine = systolic_only(arch)
    p = products_of(machine, work)
    keys, first, entry = entries(work)
    rows = dict(zip(keys, first.tolist(), strict=True))
    if problems := list(_problems(machine, p, rows, schedule)):
        if len(problems) > MOST:
            message = f"{len(problems)} mistakes, of which {MOST} are shown; `nmsim schedule` makes a schedule anew"
            problems = [*problems[:MOST], schedule.document.problem(("kind",), message)]
        raise SpecError(problems)
    choices = {choice.key: choice for choice in schedule.ops}
    return _plan([choices[key] for key in keys], p.side[first] > 0).take(entry)


def _problems(arch: SystolicArch, p: Products, rows: dict[Key, int], schedule: Schedule) -> Iterator[Problem]:
    problem = schedule.document.problem
    if schedule.file.machine != arch.name:
        cure = f"`nmsim schedule {arch.name} …` makes one for it"
        yield problem(("machine",), f"made for {schedule.file.machine}, not for {arch.name}; {cure}")
    seen: dict[Key, int] = {}
    for i, choice in enumerate(schedule.ops):
        place = ("ops", i)
        if choice.key not in rows:
            field, message = _no_product(choice, rows)
            yield problem((*place, field), message)
        elif choice.key in seen:
            yield problem((*place, "layer"), f"{choice} has an entry already, ops[{seen[choice.key]}]; keep one")
        else:
            for field, message in _mistakes(arch, p, rows[choice.key], choice):
                yield problem((*place, field), f"{choice}: {message}")
        seen.setdefault(choice.key, i)
    if missing := [key for key in rows if key not in seen]:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        yield problem(("ops",), f"no entry for {name_of(missing[0])}{more}, which the workload has")


def _no_product(choice: Choice, rows: dict[Key, int]) -> Mistake:
    layers = dict.fromkeys(layer for layer, _, _ in rows)
    if choice.layer not in layers:
        return "layer", unknown("layer with products", choice.layer, layers)
    stages = list(dict.fromkeys(stage for layer, stage, _ in rows if layer == choice.layer))
    if choice.stage not in stages:
        return "stage", f"{choice.layer} has no product in {choice.stage}; it has them in {', '.join(stages)}"
    parts = sum(key[:2] == (choice.layer, choice.stage) for key in rows)
    return "part", f"{choice.layer} {choice.stage} has parts 1 to {parts} (its different products), no {choice.part}"


def _mistakes(arch: SystolicArch, p: Products, row: int, choice: Choice) -> Iterator[Mistake]:
    """What is wrong with the choice for the product in this row."""
    size, given = sizes(p, row), choice.product
    if given != size and given != [*size, 1]:
        yield "product", f"it is {_times(size)} in the workload, not {_times(given)}; schedule that workload anew"
        return
    if choice.runs not in ("dense", as_sparse := pattern_of(p, row)):
        allowed = "dense" if as_sparse == "dense" else f"{as_sparse}, or dense"
        yield "runs", f"on {arch.name} it can run {allowed}, not {choice.runs!r}"
        return
    one = dense_where(take(p, np.array([row])), np.array([choice.runs == "dense"]))
    if choice.dataflow not in arch.array.allowed:
        fixed = " (array.scheduling: fixed)" if arch.array.scheduling == "fixed" else ""
        yield "dataflow", f"{arch.name} has {', '.join(arch.array.allowed)}{fixed}, not {choice.dataflow}"
    elif choice.dataflow != "os" and SIDES[one.side[0]] == _streamed(choice) and not skips_streamed_zeros(arch):
        yield "runs", f"with {choice.dataflow} operand {_streamed(choice)} streams, whose zeros this array cannot skip"
    if (wrong := _turns(arch, choice)) is not None:
        yield "interleave", wrong
    elif (wrong := _tile(arch, choice)) is not None:
        yield "tile", wrong
    yield from _residents(arch, one, choice)


def _streamed(choice: Choice) -> str:
    """The operand that streams past the one that is stationary."""
    return "A" if choice.dataflow == "ws" else "B"


def _turns(arch: SystolicArch, choice: Choice) -> str | None:
    turns, most = choice.interleave[0] * choice.interleave[1], arch.array.interleave
    if choice.dataflow != "os" and turns > 1:
        return f"{choice.interleave}: only os takes outputs in turn; leave it out with {choice.dataflow}"
    if turns > most:
        return f"{turns} outputs in turn; the units of {arch.name} take {most} (array.interleave)"
    return None


def _tile(arch: SystolicArch, choice: Choice) -> str | None:
    """What is wrong with the tile: not whole arrays of outputs, or too large for the accumulators."""
    array, (high, wide) = arch.array, choice.tile
    rows, columns = (array.columns, array.rows) if choice.dataflow == "is" else (array.rows, array.columns)
    steps = rows * choice.interleave[0], columns * choice.interleave[1]
    if high % steps[0] or wide % steps[1]:
        up = [-(-size // step) * step for size, step in zip(choice.tile, steps, strict=True)]
        return f"{_times(choice.tile)} is not made of whole arrays of {_times(steps)} outputs; {_times(up)} is"
    room = usable(arch.memories, arch.memories.c_buffer)
    if high * wide * ACCUMULATOR_BYTES <= room:
        return None
    widest = room // (ACCUMULATOR_BYTES * high) // steps[1] * steps[1]
    highest = room // (ACCUMULATOR_BYTES * steps[1]) // steps[0] * steps[0]
    fit = (high, widest) if widest else (highest, steps[1])
    need = f"{_times(choice.tile)} sums of {ACCUMULATOR_BYTES} B are {high * wide * ACCUMULATOR_BYTES:,} B"
    return f"{need}, {_holds(arch, 'c', room)}; {_times(fit)} would fit"


def _residents(arch: SystolicArch, one: Products, choice: Choice) -> Iterator[Mistake]:
    """Operands that shall stay on chip and do not fit their buffer; `one` is the product alone."""
    walks = {"A": choice.order == "mn", "B": choice.order == "nm"}
    for letter, operand, length, tile, what in (
        ("A", one.a, one.m[0], choice.tile[0], "rows"),
        ("B", one.b, one.n[0], choice.tile[1], "columns"),
    ):
        if letter not in choice.resident:
            continue
        whole, part = float(footprint(operand, one.count)[0]), min(tile / length, 1.0) if walks[letter] else 1.0
        room = float(operand.room[0])
        if whole * part > room:
            amount = f"a stripe of {tile:,} {what}" if walks[letter] else f"all of its {length:,.0f} {what}"
            yield (
                "resident",
                f"{letter}: {amount} is {whole * part:,.0f} B, "
                + _cure(arch, letter, operand, room / whole * length, what, walks[letter]),
            )


def _cure(arch: SystolicArch, letter: str, operand: Operand, most: float, what: str, stripe: bool) -> str:
    holds = _holds(arch, letter.lower(), float(operand.room[0]))
    order = "" if stripe else f" in stripes (order: {'mn' if letter == 'A' else 'nm'})"
    fit = f"{int(most):,} {what}{order} would fit, or" if most >= 1 else "not one of them fits:"
    return f"{holds}; {fit} leave {letter} out to read it anew for each tile"


def _holds(arch: SystolicArch, letter: str, room: float) -> str:
    half = "half of " if arch.memories.double_buffered else ""
    return f"{half}memories.{letter}_buffer holds {room:,.0f} B"


def _times(values: tuple[float, ...] | list[int]) -> str:
    return " x ".join(f"{value:,.0f}" for value in values)


def _plan(choices: list[Choice], sparse: np.ndarray) -> Plan:
    """The choices as arrays, one after the other; `sparse` tells the products whose zeros could be skipped."""
    tile_m, tile_n, turns_m, turns_n = (
        np.array([getattr(c, field)[axis] for c in choices], dtype=float)
        for field in ("tile", "interleave")
        for axis in (0, 1)
    )
    dataflow, order, dense, keep_a, keep_b = (
        np.array(codes, dtype=np.uint8)
        for codes in (
            [DATAFLOWS.index(c.dataflow) for c in choices],
            [ORDERS.index(c.order) for c in choices],
            [c.runs == "dense" and skips for c, skips in zip(choices, sparse, strict=True)],
            ["A" in c.resident for c in choices],
            ["B" in c.resident for c in choices],
        )
    )
    return Plan(dataflow, tile_m, tile_n, order, turns_m, turns_n, dense, keep_a, keep_b)
