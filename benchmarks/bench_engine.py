"""Time and memory of simulate(): a ResNet50 training step at 50 patterns, a million distinct products, and ten thousand
dense ones with every tile and split of each GPU's library."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

MACHINES = ("sat_vcu1525", "systolic_128x128", "a100_sxm4_80gb")
GPUS = ("a100_sxm4_80gb", "v100_sxm2", "h100_sxm5", "rtx3090")


def patterns(count: int = 50) -> list[str]:
    """The first `count` patterns n:m of a fixed list."""
    return [f"{n}:{m}" for m in (4, 8, 16, 2, 6, 12, 32) for n in range(1, m)][:count]


def fifty_patterns(machine: str) -> None:
    """8,100 products: 54 layers of ResNet50, three stages, 50 patterns, in one call."""
    import nmsim

    step = nmsim.load_workload("resnet50", batch=128).training("dense", first_input_gradient=True)
    rows = np.flatnonzero(step.gemms)
    sizes = {c: np.tile(step[c][rows], 50) for c in ("m", "n", "k", "count")}
    work = nmsim.gemms({**sizes, "pattern": np.repeat(patterns(), len(rows)), "operand": ["B"] * 50 * len(rows)})
    arch = nmsim.load_arch(machine)
    report(f"{len(work):,} products of ResNet50 at 50 patterns", machine, lambda: nmsim.simulate(arch, work), 5)


def million(machine: str) -> None:
    """A million products of distinct sizes, dense and sparse."""
    import nmsim

    size = 1_000_000
    rng = np.random.default_rng(0)
    m, n, k = rng.integers(1, 8192, (3, size))
    work = nmsim.gemms({"m": m, "n": n, "k": k, "pattern": rng.choice(["dense", "2:4", "1:4", "2:8"], size)})
    arch = nmsim.load_arch(machine)
    report(f"{size:,} distinct products", machine, lambda: nmsim.simulate(arch, work), 1)


def ten_thousand(machine: str) -> None:
    """Ten thousand dense fp16 products of distinct sizes."""
    import nmsim

    m, n, k = np.random.default_rng(0).integers(64, 8192, (3, 10_000))
    work, arch = nmsim.gemms({"m": m, "n": n, "k": k}), nmsim.load_arch(machine)
    report(f"{len(work):,} dense products", machine, lambda: nmsim.simulate(arch, work), 5)


def report(what: str, machine: str, action: Callable[[], object], repeats: int) -> None:
    """Print the median CPU time of `action` and the peak memory of this process."""
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        action()
        seconds.append(time.process_time() - start)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(f"{what:45} {machine:18} {statistics.median(seconds):7.3f} s CPU  {peak_mb:7.0f} MB peak")


CASES = {"fifty": (fifty_patterns, MACHINES), "million": (million, MACHINES), "tenthousand": (ten_thousand, GPUS)}


def main() -> None:
    """Each case in a process of its own, so that its peak memory is its own."""
    if len(sys.argv) == 3:
        CASES[sys.argv[1]][0](sys.argv[2])
        return
    for case, (_, machines) in CASES.items():
        for machine in machines:
            subprocess.run([sys.executable, "-m", "benchmarks.bench_engine", case, machine], check=True)


if __name__ == "__main__":
    main()
