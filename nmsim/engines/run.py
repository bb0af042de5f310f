"""simulate(): the one door to the engines."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nmsim.arch.load import load_arch
from nmsim.arch.schema import AnyArch, CpuArch, SystolicArch, TensorCoreArch
from nmsim.engines import analytic
from nmsim.errors import UnsupportedError, unknown
from nmsim.results.result import Result
from nmsim.workloads.optable import Workload

if TYPE_CHECKING:
    from nmsim.engines.schedule import Schedule
    from nmsim.engines.systolic import Plan


def _event(arch: AnyArch, work: Workload, strict: bool, plan: Plan | None, **options: Any) -> Result:
    """The event engine, imported where it is used."""
    from nmsim.engines.event.engine import simulate as execute

    return execute(arch, work, strict, plan, **options)


ENGINES: dict[str, Callable[..., Result]] = {"analytic": analytic.simulate, "event": _event}
OPTIONS: dict[str, tuple[str, ...]] = {"analytic": (), "event": ("overlap", "extrapolate", "max_tiles")}
"""What else can be said to each engine."""


def simulate(
    arch: AnyArch | str | os.PathLike[str],
    workload: Workload,
    engine: str = "analytic",
    strict: bool = False,
    schedule: Schedule | str | os.PathLike[str] | None = None,
    **options: Any,
) -> Result:
    """The cost of `workload` on `arch` (a machine from `load_arch`, or its name).

    Options of the event engine are those of `nmsim.engines.event.engine.simulate`.

    `strict` refuses patterns that the machine has no mode for, which otherwise run dense and say why (zeros whose
    groups run along another axis than k are the recipe's doing, and run dense all the same). `schedule` (from
    `make_schedule`, or a file) says how each product runs, which is else searched. Raises UnsupportedError for an
    engine, data type or, with `strict`, pattern that is not there, SpecError for a schedule that does not fit.
    """
    if engine not in ENGINES:
        raise UnsupportedError(unknown("engine", engine, ENGINES))
    if unfit := [name for name in options if name not in OPTIONS[engine]]:
        raise UnsupportedError(f"the {engine} engine has no option {unfit[0]!r}; {_options(engine)}")
    machine = load_arch(arch) if isinstance(arch, (str, os.PathLike)) else arch
    if not isinstance(machine, SystolicArch | TensorCoreArch | CpuArch):
        raise UnsupportedError(f"the first argument is a machine (load_arch) or its name, not a {_kind(machine)}")
    if not isinstance(workload, Workload):
        raise UnsupportedError(
            f"the second argument is a workload (load_workload, gemm, gemms), not a {_kind(workload)}"
        )
    plan = None if schedule is None else _plan(machine, workload, schedule)
    return ENGINES[engine](machine, workload, strict, plan, **options)


def _options(engine: str) -> str:
    return f"it has {', '.join(OPTIONS[engine])}" if OPTIONS[engine] else "it has none"


def _plan(arch: AnyArch, workload: Workload, schedule: Schedule | str | os.PathLike[str]) -> Plan:
    from nmsim.engines import planned
    from nmsim.engines.schedule import Schedule, load_schedule

    if not isinstance(schedule, Schedule | str | os.PathLike):
        raise UnsupportedError(f"a schedule comes from make_schedule or is a file, not a {_kind(schedule)}")
    ready = schedule if isinstance(schedule, Schedule) else load_schedule(schedule)
    return planned.plan(arch, workload, ready)


def _kind(thing: object) -> str:
    return type(thing).__name__
