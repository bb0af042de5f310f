"""Sweeps: points per second of shared models and of single products, cost per point, processes, overhead of chunks.

    python -m benchmarks.bench_sweep [million | single | sobol | linear | processes | overhead]

CPU seconds count all processes; on a busy machine they say more than the wall's.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

MILLION = 1_000_000
TASK_SECONDS = 0.010


def cpu_seconds() -> float:
    """CPU seconds of this process and of those of its children that ended."""
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def pool(jobs: int) -> Executor:
    """Processes that each begin with nothing."""
    return ProcessPoolExecutor(jobs, mp_context=get_context("spawn"))


def report(what: str, points: int, action: Callable[[], Any]) -> tuple[float, float]:
    """Run, print and return wall and CPU seconds."""
    wall, cpu = time.perf_counter(), cpu_seconds()
    action()
    wall, cpu = time.perf_counter() - wall, cpu_seconds() - cpu
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 1e3
    rate = points / cpu
    print(
        f"{what:58} {wall:7.2f} s wall {cpu:7.2f} s CPU {rate:10,.0f} points per CPU s, largest process {peak:5.0f} MB"
    )
    return wall, cpu


def million() -> None:
    """A million machines and patterns for a training step of ResNet-50, on two processes."""
    import nmsim

    def run() -> None:
        with pool(2) as executor:
            nmsim.sweep("sat_resnet50_million", executor)

    report("1,000,000 points of a ResNet-50 step, 2 processes", MILLION, run)


def products(points: int, arch: str) -> dict[str, Any]:
    """A space of single products, sizes and two numbers of the machine."""
    sizes = {letter: {"from": 16, "to": 8192, "scale": "log"} for letter in "mnk"}
    axes = {
        **sizes,
        "pattern": ["dense", "2:4"],
        "arch.clock": {"from": "0.5 GHz", "to": "2 GHz"},
        "arch.memories.dram.bandwidth": {"from": "100 GB/s", "to": "4 TB/s"},
    }
    sample = {"method": "random", "points": points}
    return {"fixed": {"arch": arch}, "axes": axes, "sample": sample, "metrics": ["latency_s", "energy_j"]}


def single() -> None:
    """Every point another product on another machine: nothing is shared."""
    import nmsim

    for arch in ("systolic_128x128", "sat_vcu1525", "a100_sxm4_80gb"):
        space = products(400_000, arch)
        report(f"400,000 single products on as many machines, {arch}", 400_000, lambda space=space: nmsim.sweep(space))


def sobol() -> None:
    """The other end: every point a ResNet-50 step on a machine of its own, so that nothing is shared."""
    import nmsim

    axes = {
        "arch.clock": {"from": "100 MHz", "to": "1 GHz"},
        "arch.memories.dram.bandwidth": {"from": "10 GB/s", "to": "200 GB/s"},
        "arch.array.rows": {"from": 16, "to": 64},
    }
    fixed = {"arch": "sat_vcu1525", "workload": "resnet50", "recipe": "bdwp", "pattern": "2:8", "batch": 64}
    space = {"fixed": fixed, "axes": axes, "sample": {"method": "sobol", "points": 4096}}
    report("4,096 points of a ResNet-50 step, nothing shared", 4096, lambda: nmsim.sweep(space))


def linear() -> None:
    """Cost against points."""
    import nmsim

    for points in (10_000, 30_000, 100_000, 300_000):
        space = products(points, "systolic_128x128")
        report(f"{points:,} single products", points, lambda space=space: nmsim.sweep(space))


def processes() -> None:
    """One process and two, in turn, each with its start-up behind it.

    On a machine that is busy with other work the ratio of the walls says little; that of the CPU seconds, less those
    of starting and trying the numbers, says how much two processes cost beyond one, and so what two idle cores gain.
    """
    import nmsim

    points = 1_200_000
    space, small = products(points, "systolic_128x128"), products(4096, "systolic_128x128")
    walls: dict[int, list[float]] = {1: [], 2: []}
    cpus: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(2):
        for jobs in (1, 2):
            spent = []
            for whole in (False, True):
                start = cpu_seconds()
                with pool(jobs) as executor:
                    nmsim.sweep(small, executor, chunk=512)
                    begin = time.perf_counter()
                    if whole:
                        nmsim.sweep(space, executor, chunk=25_000)
                        walls[jobs].append(time.perf_counter() - begin)
                spent.append(cpu_seconds() - start)
            cpus[jobs].append(spent[1] - spent[0])
            print(
                f"{points:,} points, {jobs} processes: {walls[jobs][-1]:.2f} s wall, {cpus[jobs][-1]:.2f} s CPU, "
                f"and {spent[0]:.2f} s CPU to start"
            )
    wall, cpu = min(walls[1]) / min(walls[2]), min(cpus[1]) / min(cpus[2])
    print(f"two processes: {wall:.2f} times as fast by the wall; {2 * cpu:.2f} by CPU seconds")


def wait(_: object) -> None:
    """A task that takes 10 ms of wall and nothing of the CPU."""
    time.sleep(TASK_SECONDS)


def overhead() -> None:
    """What handing tasks of 10 ms to two processes costs: they sleep, so that all CPU time is that of the executor."""
    from concurrent.futures import as_completed

    count = 1000
    cpu = cpu_seconds()
    with pool(2) as executor:
        list(executor.map(wait, range(4)))
    start_up = cpu_seconds() - cpu
    cpu = cpu_seconds()
    with pool(2) as executor:
        list(as_completed([executor.submit(wait, i) for i in range(count)]))
    each = (cpu_seconds() - cpu - start_up) / count
    print(f"{count} tasks of 10 ms on two processes: {1e3 * each:.2f} ms CPU each, {100 * each / TASK_SECONDS:.1f} %")


CASES = {f.__name__: f for f in (million, single, sobol, linear, processes, overhead)}


def main(names: Sequence[str] = ()) -> None:
    for name in names or CASES:
        CASES[name]()


if __name__ == "__main__":
    main(sys.argv[1:])
