"""Schedules: making, writing and reading one of a ResNet50 training step, and replaying it beside the search."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any


def seconds(action: Callable[[], Any], repeats: int = 5) -> float:
    """Median CPU time of an action."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        action()
        times.append(time.process_time() - start)
    return statistics.median(times)


def main() -> None:
    import nmsim

    arch = nmsim.load_arch("sat_vcu1525")
    step = nmsim.load_workload("resnet50", batch=128).training("bdwp", "2:8")
    schedule = nmsim.make_schedule(arch, step)
    with TemporaryDirectory() as folder:
        file = Path(folder) / "schedule.yaml"
        schedule.save(file)
        cases: dict[str, Callable[[], Any]] = {
            "make": lambda: nmsim.make_schedule(arch, step),
            "write": lambda: schedule.save(file),
            "read": lambda: nmsim.load_schedule(file),
            "simulate, searching": lambda: nmsim.simulate(arch, step),
            "simulate, replaying": lambda: nmsim.simulate(arch, step, schedule=schedule),
        }
        for what, action in cases.items():
            print(f"schedule of {len(schedule.ops)} products: {what:20} {1e3 * seconds(action):7.1f} ms CPU")


if __name__ == "__main__":
    main()
