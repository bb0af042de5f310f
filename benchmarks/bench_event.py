"""The event engine: pieces per CPU second, a ResNet50 training step, and how cost grows with batch, repeats and ops."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time


def speed() -> None:
    """Every piece simulated, nothing skipped: a large product alone, and a whole training step with overlap."""
    import nmsim
    from nmsim.engines.event.engine import simulate

    arch = nmsim.load_arch("systolic_32x32")
    product = nmsim.gemm(1 << 17, 1024, 512)
    step = nmsim.load_workload("resnet50", batch=128).training("bdwp", "2:8")
    for what, machine, work in (
        ("one product", arch, product),
        ("ResNet50 step", nmsim.load_arch("sat_vcu1525"), step),
    ):
        rates = []
        for _ in range(5):
            start = time.process_time()
            result = simulate(machine, work, extrapolate=False)
            rates.append(result.simulated / (time.process_time() - start))
        print(f"{what}, in full: {result.simulated:,} pieces, {statistics.median(rates):,.0f} per CPU second")


def resnet50(batch: int, steps: int) -> None:
    """A BDWP 2:8 training run on sat_vcu1525."""
    import nmsim

    work = nmsim.load_workload("resnet50", batch=batch).training("bdwp", "2:8", steps=steps)
    start = time.process_time()
    result = nmsim.simulate("sat_vcu1525", work, engine="event")
    seconds = time.process_time() - start
    pieces = sum(stream.length for stream in result.streams)  # type: ignore[attr-defined]
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(
        f"ResNet50, batch {batch:5}, {steps:7,} steps: {seconds:5.2f} s CPU, {peak_mb:4.0f} MB peak, "
        f"{result.simulated:,} of {pieces:,} pieces simulated"  # type: ignore[attr-defined]
    )


def growth() -> None:
    """CPU time against the number of products, all equal or all different, and of the first against batch."""
    import nmsim
    from nmsim.engines.event.engine import simulate

    arch = nmsim.load_arch("sat_vcu1525")
    simulate(arch, nmsim.gemm(64, 64, 64))
    for number in (1, 10, 100, 1_000, 10_000):
        cells = []
        for m in ([4096] * number, range(4096, 4096 + number)):
            work = nmsim.gemms({"m": m, "n": [512] * number, "k": [1024] * number})
            start = time.process_time()
            result = simulate(arch, work)
            cells.append(f"{time.process_time() - start:7.3f} s CPU, {result.simulated:9,} pieces simulated")
        print(f"{number:6,} products: equal {cells[0]}; different {cells[1]}")


CASES = (
    ["speed"],
    *(
        ["resnet50", batch, steps]
        for batch, steps in (("32", "1"), ("128", "1"), ("1024", "1"), ("8192", "1"), ("128", "100000"))
    ),
    ["growth"],
)


def main() -> None:
    """Each case in a process of its own, so that its peak memory is its own."""
    if len(sys.argv) > 1:
        case, *numbers = sys.argv[1:]
        {"speed": speed, "resnet50": resnet50, "growth": growth}[case](*map(int, numbers))
        return
    for arguments in CASES:
        subprocess.run([sys.executable, "-m", "benchmarks.bench_event", *arguments], check=True)


if __name__ == "__main__":
    main()
