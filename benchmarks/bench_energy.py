"""What energy adds to an analytic run, and the time of a Monte Carlo of 1,000 samples over a ResNet50 step."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np

MACHINES = ("sat_vcu1525", "systolic_128x128", "a100_sxm4_80gb")
SAMPLES = 1000


def cpu(action: Callable[[], object]) -> float:
    start = time.process_time()
    action()
    return time.process_time() - start


def share_of_energy(machine: str, size: int) -> tuple[float, float]:
    """Median CPU seconds of a run of `size` distinct products, and the share of it that counting actions and
    multiplying them by their energies takes (measured inside the same runs)."""
    import nmsim
    from nmsim.engines import actions, analytic

    rng = np.random.default_rng(0)
    m, n, k = rng.integers(1, 8192, (3, size))
    work = nmsim.gemms({"m": m, "n": n, "k": k, "pattern": rng.choice(["dense", "2:4", "1:4", "2:8"], size)})
    arch = nmsim.load_arch(machine)
    spent = [0.0]

    def timed(function: Callable[..., object]) -> Callable[..., object]:
        def wrapper(*args: object, **options: object) -> object:
            start = time.process_time()
            try:
                return function(*args, **options)
            finally:
                spent[0] += time.process_time() - start

        return wrapper

    count, account = actions.count, analytic.account
    shares, totals = [], []
    try:
        actions.count, analytic.account = timed(count), timed(account)  # type: ignore[assignment]
        for _ in range(5):
            spent[0] = 0.0
            start = time.process_time()
            result = nmsim.simulate(arch, work)
            total = time.process_time() - start
            by_component = cpu(lambda result=result: result.account.by_component())
            totals.append(total)
            shares.append((spent[0] + by_component) / (total - spent[0] - by_component))
    finally:
        actions.count, analytic.account = count, account
    return statistics.median(totals), statistics.median(shares)


def monte_carlo() -> float:
    """Median CPU seconds of an interval from SAMPLES samples of a BDWP step of ResNet50, from its counts on."""
    import nmsim
    from nmsim.report.energy import spread_of

    result = nmsim.simulate("sat_vcu1525", nmsim.load_workload("resnet50", batch=128).training("bdwp", "2:8"))
    return statistics.median(cpu(lambda: spread_of(result).interval(SAMPLES)) for _ in range(7))  # type: ignore[union-attr]


def main() -> None:
    for machine in MACHINES:
        for size in (8_100, 200_000):
            seconds, share = share_of_energy(machine, size)
            print(f"{size:,} products on {machine:18} {seconds:7.3f} s CPU, energy adds {100 * share:5.1f} %")
    print(f"Monte Carlo, {SAMPLES:,} samples of a ResNet50 BDWP step: {1e3 * monte_carlo():.1f} ms CPU")


if __name__ == "__main__":
    main()
