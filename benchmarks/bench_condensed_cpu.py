"""Dense, CSR and constant fan-in layers on one core: what is measured beside what the model of a CPU predicts.

Run with OPENBLAS_NUM_THREADS=1. The layer of SRigL's benchmark (arXiv 2305.02299): 3072 inputs, 768 outputs, fp32.
Weights change from call to call, so that they come from DRAM as the model has it. Times are CPU time of the only
thread, medians of rounds. `--calibrate` measures the numbers that the architecture file calls calibrated, on layers
of other shapes; `--at-hand` compares with a machine that has the numbers measured here and now instead of the file's.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Sequence
from itertools import cycle

import numpy as np

import nmsim
from nmsim.arch.schema import CpuArch
from nmsim.sparsity.condensed import Condensed

ARCH = "epyc_zen4_2core"
INPUTS, OUTPUTS = 3072, 768
SPARSITIES = (0.8, 0.9, 0.95, 0.99)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
COPIES_BYTES = 64 << 20
ROUNDS, ROUND_SECONDS = 7, 0.02
LANES = 16
"""Products in fp32 of an AVX-512 instruction, one a cycle."""
UNITS = {
    "clock": "Hz", "memories.l3.bandwidth": "B/clk", "memories.dram.bandwidth": "B/s", "launch.floor": "s",
    "gathers.csr.start": "s", "gathers.condensed.start": "s",
}  # fmt: skip
RNG = np.random.default_rng(0)

Call = Callable[[], object]


def seconds(calls: Sequence[Call], rounds: int = ROUNDS) -> float:
    """CPU seconds of a call, the calls taken in turn: the median of rounds."""
    turn = cycle(calls)
    for _ in calls:
        next(turn)()
    start = time.process_time()
    next(turn)()
    repeats = max(1, round(ROUND_SECONDS / max(time.process_time() - start, 1e-6)))
    found = []
    for _ in range(rounds):
        start = time.process_time()
        for _ in range(repeats):
            next(turn)()
        found.append((time.process_time() - start) / repeats)
    return statistics.median(found)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape, np.float32)


def layer(outputs: int, inputs: int, fan_in: int) -> Condensed:
    places = np.sort(np.argsort(RNG.random((outputs, inputs)), axis=1)[:, :fan_in], axis=1)
    return Condensed(normal(outputs, fan_in), places, np.arange(outputs), outputs, inputs)


def copies(make: Callable[[], object], size: int) -> list[object]:
    """As many as a cache does not hold, and at most 32."""
    return [make() for _ in range(min(32, max(2, COPIES_BYTES // size)))]


def calibrate(at_hand: bool = False) -> dict[str, float]:
    """The calibrated numbers of one core, by their path in the architecture file; cycles are those of its clock.

    `at_hand`, the clock is the one at which no core multiplies faster than its units can, if that is higher.
    """
    clock = nmsim.load_arch(ARCH).clock
    square, big = normal(512, 512), normal(2048, 2048)
    pair, tiny, rows = normal(2, 2048), normal(2, 2), normal(64, 2048)
    stream, cached = normal(16 * 1024, 2048), normal(1024, 2048)
    vector = normal(2048)
    rate = 512**3 / seconds([lambda: square @ square])
    clock = max(clock, rate / LANES) if at_hand else clock
    found = {
        "clock": clock,
        "cores.fma_efficiency": rate / clock / LANES,
        "cores.packing": seconds([lambda: pair @ big.T]) * clock / big.size,
        "memories.l3.bandwidth": cached.nbytes / seconds([lambda: cached @ vector]) / clock,
        "memories.dram.bandwidth": stream.nbytes / seconds([lambda: stream @ vector]),
        "launch.floor": seconds([lambda: tiny @ tiny]),
        "gathers.transposing": seconds([lambda: np.ascontiguousarray(rows.T)]) * clock / rows.size,
    }
    for name, kernel in (("csr", "csr"), ("condensed", "gather")):
        found |= {f"gathers.{name}.{x}": y for x, y in gathering(kernel, clock, found["gathers.transposing"]).items()}
    return found


def gathering(kernel: str, clock: float, transposing: float) -> dict[str, float]:
    """The numbers of a gathering kernel: a vector, then 4 and 64 rows, less what their transposition takes."""
    weight, small = layer(512, 2048, 256), layer(2, 8, 4)
    start = seconds([lambda: small.matmul(np.ones((1, 8), np.float32), kernel=kernel)])  # type: ignore[arg-type]
    taken = {}
    for batch in (1, 4, 64):
        x = normal(batch, 2048)
        cycles = (seconds([lambda x=x: weight.matmul(x, kernel=kernel)]) - start) * clock  # type: ignore[misc]
        taken[batch] = (cycles - (x.size * transposing if batch > 1 else 0)) / weight.values.size
    each = taken[64] / 64 if kernel == "csr" else (taken[64] - taken[4]) / 60
    entry = taken[4] if kernel == "csr" else taken[4] - 4 * each
    return {"single": taken[1], "entry": entry, "elements": 1 / each, "start": start}


def one_core(measured: dict[str, float]) -> CpuArch:
    """The machine with one of its cores, which has its share of the bandwidth of DRAM, and the numbers measured."""
    whole = nmsim.load_arch(ARCH)
    assert isinstance(whole, CpuArch)
    bandwidth = whole.memories.dram.bandwidth / whole.cores.count
    own = {"cores.count": 1, "memories.dram.bandwidth": f"{bandwidth / 1e9} GB/s"}
    units = {path: f"{value} {UNITS[path]}" if path in UNITS else value for path, value in measured.items()}
    changed = nmsim.load_arch(ARCH, own | units)
    assert isinstance(changed, CpuArch)
    return changed


def predicted(arch: CpuArch, batch: int, fan_in: int | None) -> dict[str, float]:
    """Seconds with each kernel, and `chosen`, what the model decides for."""
    from nmsim.arch.capability import skips
    from nmsim.engines import cpu, gathers, products, vector

    pattern = "dense" if fan_in is None else f"fan-in:{fan_in}"
    work = nmsim.gemm(batch, OUTPUTS, INPUTS, pattern, "B", "fp32")
    p = products.gather(arch, work, skips(arch, work), vector.pruned_online(work))
    timings = {"dense": cpu.evaluate(arch, p)}
    g = arch.gathers
    if fan_in is not None and g is not None and g.condensed is not None:
        e = gathers.entries(arch, work)
        timings |= {x: gathers.gather(arch, g, k, p, e) for x, k in (("csr", g.csr), ("condensed", g.condensed))}
    found = {x: float(sum(t.causes.values())[0]) / arch.clock for x, t in timings.items()}  # type: ignore[index]
    return found | {"chosen": nmsim.simulate(arch, work).latency_s}


def compare(arch: CpuArch) -> None:
    """Print measured and predicted times, and the mean and largest error of each kernel."""
    dense = copies(lambda: normal(OUTPUTS, INPUTS), OUTPUTS * INPUTS * 4)
    fan_ins = {s: round(INPUTS * (1 - s)) for s in SPARSITIES}
    sparse = {s: copies(lambda k=k: layer(OUTPUTS, INPUTS, k), OUTPUTS * k * 12) for s, k in fan_ins.items()}
    errors: dict[str, list[float]] = {"dense": [], "csr": [], "condensed": []}
    right: list[float] = []
    print(f"{'sparsity':>8} {'batch':>5} {'kernel':<10} {'measured us':>11} {'predicted us':>12} {'error %':>8}")
    for batch in BATCHES:
        x = normal(batch, INPUTS)
        times = {"dense": seconds([lambda x=x, w=w: x @ w.T for w in dense])}
        report(0.0, batch, times, predicted(arch, batch, None), errors)
        for s, weights in sparse.items():
            for name, kernel in (("csr", "csr"), ("condensed", "gather")):
                times[name] = seconds([lambda x=x, c=c, kernel=kernel: c.matmul(x, kernel=kernel) for c in weights])
            model = predicted(arch, batch, fan_ins[s])
            report(s, batch, {k: v for k, v in times.items() if k != "dense"}, model, errors)
            chosen = min(errors, key=lambda k: model[k])
            right.append(times[chosen] / min(times.values()))
    for name, found in errors.items():
        size = np.abs(found)
        print(f"{name:<10} mean |error| {100 * size.mean():5.1f} %, median {100 * np.median(size):5.1f} %, "
              f"largest {100 * size.max():5.1f} %, of {len(found)}")  # fmt: skip
    print(f"the kernel chosen is the fastest measured in {sum(r == 1 for r in right)} of {len(right)}; "
          f"where not, it takes up to {max(right):.2f} times as long")  # fmt: skip


def report(
    sparsity: float, batch: int, measured: dict[str, float], model: dict[str, float], errors: dict[str, list[float]]
) -> None:
    for name, time_s in measured.items():
        error = model[name] / time_s - 1
        errors[name].append(error)
        print(f"{sparsity:8.0%} {batch:5} {name:<10} {time_s * 1e6:11.1f} {model[name] * 1e6:12.1f} {100 * error:8.1f}")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calibrate", action="store_true", help="measure the calibrated numbers and stop")
    parser.add_argument("--at-hand", action="store_true", help="compare with these numbers as measured now")
    args = parser.parse_args(arguments)
    if os.environ.get("OPENBLAS_NUM_THREADS") != "1":
        parser.error("one core is measured: set OPENBLAS_NUM_THREADS=1")
    if not args.calibrate:
        compare(one_core(calibrate(at_hand=True) if args.at_hand else {}))
        return
    for path, value in calibrate().items():
        print(f"{path:<32} {value:.4g}")


if __name__ == "__main__":
    main()
