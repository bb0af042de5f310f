"""What energy adds to an analytic run, and the time of a Monte Carlo of 1,000 samples over a ResNet50 step."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from nmsim.workloads.optable import Workload

MACHINES = ("sat_vcu1525", "systolic_128x128", "a100_sxm4_80gb")
SAMPLES = 1000


def cpu(action: Callable[[], object]) -> float:
    start = time.process_time()
    action()
    return time.process_time() - start


def products(size: int) -> Workload:
    """Distinct products, dense and sparse."""
    import nmsim

    rng = np.random.default_rng(0)
    m, n, k = rng.integers(1, 8192, (3, size))
    return nmsim.gemms({"m": m, "n": n, "k": k, "pattern": rng.choice(["dense", "2:4", "1:4", "2:8"], size)})


def share_of_energy(machine: str, work: Workload, times: int = 7) -> tuple[float, float]:
    """Median CPU seconds of a run, and what energy adds to the same run without it: runs with and without the counts
    of actions and their energies, taken in turn."""
    import nmsim
    from nmsim.engines import actions

    arch = nmsim.load_arch(machine)
    count = actions.count
    full, bare = [], []
    for _ in range(times):
        full.append(cpu(lambda: nmsim.simulate(arch, work)))
        try:
            actions.count = lambda *args, **options: {}
            bare.append(cpu(lambda: nmsim.simulate(arch, work)))
        finally:
            actions.count = count
    return statistics.median(full), statistics.median(full) / statistics.median(bare) - 1


def monte_carlo() -> float:
    """Median CPU seconds of an interval from SAMPLES samples of a BDWP step of ResNet50, from its counts on."""
    import nmsim
    from nmsim.report.energy import spread_of

    result = nmsim.simulate("sat_vcu1525", nmsim.load_workload("resnet50", batch=128).training("bdwp", "2:8"))
    return statistics.median(cpu(lambda: spread_of(result).interval(SAMPLES)) for _ in range(7))  # type: ignore[union-attr]


def power_over_time() -> float:
    """Median CPU seconds of the power of a BDWP step of ResNet50 over time, after its run by the event engine."""
    import nmsim

    step = nmsim.load_workload("resnet50", batch=128).training("bdwp", "2:8")
    result = nmsim.simulate("sat_vcu1525", step, engine="event")
    return statistics.median(cpu(result.power) for _ in range(5))  # type: ignore[attr-defined]


def main() -> None:
    import nmsim

    step = nmsim.load_workload("resnet50", batch=128).training("bdwp", "2:8")
    works = {f"{size:,} products": products(size) for size in (8_100, 50_000)} | {"ResNet50 BDWP step": step}
    for machine in MACHINES:
        for name, work in works.items():
            seconds, share = share_of_energy(machine, work, 51 if work is step else 7)
            print(f"{name:18} on {machine:18} {seconds:7.3f} s CPU, energy adds {100 * share:5.1f} %")
    print(f"power over time of that step on SAT, event engine: {power_over_time():.2f} s CPU after its run")
    print(f"Monte Carlo, {SAMPLES:,} samples of a ResNet50 BDWP step: {1e3 * monte_carlo():.1f} ms CPU")


if __name__ == "__main__":
    main()
