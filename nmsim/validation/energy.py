"""`nmsim validate energy`: energies and powers against measured boards, other sources and other models.

Each point says whether it was used to make the tables (calibrated) or not (validated).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import log
from pathlib import Path

import numpy as np

from nmsim.arch.load import load_arch
from nmsim.energy.account import table_of
from nmsim.energy.files import load_files
from nmsim.energy.memory import fit
from nmsim.energy.table import energy_table
from nmsim.engines.run import simulate
from nmsim.errors import SpecError
from nmsim.sparsity.pattern import Pattern
from nmsim.units import parse_quantity
from nmsim.validation import stc
from nmsim.validation.settings import DATA
from nmsim.validation.tables import Table, read_table
from nmsim.workloads.optable import WorkloadBuilder
from nmsim.workloads.products import gemm

NAME = "energy"
POINTS, RUNS = "energy_points.csv", "cacti_sram.csv"
COLUMNS = ("set", "what", "device", "value", "unit", "rate", "tolerance", "status", "source")
TOLERANCE = 0.4
"""Figures of energy tables are commonly trusted to 40 per cent; no limit here is wider."""
LARGE = 2**28


@dataclass(frozen=True)
class Point:
    """A figure of another source beside that of the model; `tolerance` is the largest relative error stated."""

    set: str
    what: str
    stated: float
    predicted: float
    unit: str
    tolerance: float
    status: str
    source: str

    @property
    def error(self) -> float:
        """Relative error of the prediction."""
        return self.predicted / self.stated - 1

    @property
    def within(self) -> bool:
        """Whether the error is within the tolerance."""
        return abs(self.error) <= self.tolerance


def validate_energy(folder: Path = DATA) -> list[Point]:
    """Every point of the tables in `folder`, the law of SRAM against its runs, and Horowitz's table scaled."""
    return [*_points(read_table(folder / POINTS, COLUMNS)), *sram_points(folder), *scaling_points()]


def _points(table: Table) -> Iterator[Point]:
    for row in range(len(table)):
        cells = {name: str(column[row]) for name, column in table.cells.items()}
        if cells["what"] not in PREDICT:
            message = f"unknown kind of point {cells['what']!r}; allowed: {', '.join(PREDICT)}"
            raise SpecError([table.problem(row, "what", message)])
        rate = float(cells["rate"]) if cells["rate"] else 0.0
        predicted = PREDICT[cells["what"]](cells["device"], rate)
        tolerance = float(cells["tolerance"]) / 100
        yield Point(
            cells["set"], cells["device"], float(cells["value"]), predicted, cells["unit"], tolerance,
            cells["status"], cells["source"],
        )  # fmt: skip


def stream_w(machine: str, bytes_per_second: float) -> float:
    """Watts of a board that copies a long vector at this rate."""
    builder = WorkloadBuilder("stream")
    builder.add("copy", "VECTOR", "copy", m=LARGE, n=1, a_elements=LARGE, c_elements=LARGE)
    dram = {"memories.dram.bandwidth": f"{bytes_per_second / 1e9} GB/s", "memories.dram.efficiency": 1}
    arch = load_arch(machine, dram | {"vector.dram_efficiency": 1})
    return simulate(arch, builder.build()).power_w


def mma_pj_per_flop(machine: str, flops_per_second: float) -> float:
    """Picojoules per FLOP of a board whose tensor cores multiply fp16 operands in registers into fp16 sums."""
    arch = load_arch(machine)
    values = table_of(arch).values
    mac = values["arithmetic", "fp16 multiply"].joules + values["arithmetic", "fp16 add"].joules
    return (mac / 2 + arch.energy.static / flops_per_second) * 1e12


def gemm_w(text: str, _: float = 0.0) -> float:
    """Watts of a board over the fp16 product that a text like "v100_sxm2 2560 x 16 x 2560" (m, n, k) names."""
    machine, shape = text.split(" ", 1)
    m, n, k = _shape(shape)
    return simulate(machine, gemm(m, n, k)).power_w


def _shape(text: str) -> tuple[int, int, int]:
    """The m, n, k of "128 x 1024 x 1152"."""
    m, n, k = (int(word) for word in text.split(" x "))
    return m, n, k


def sram_pj(text: str, _: float = 0.0) -> float:
    """Picojoules of the access to an SRAM that a text like "32 KiB 64 bit 45 nm read" describes."""
    words = text.split()
    size, node = parse_quantity(" ".join(words[:2]), "size"), parse_quantity(" ".join(words[4:6]), "length")
    model = energy_table(node, "ddr4").sram
    access = {"read": model.read_j, "write": model.write_j}[words[6]]
    return access(size, float(words[2])) * 1e12


def arithmetic_pj(text: str, _: float = 0.0) -> float:
    """Picojoules of what a text like "int32 add 45 nm" or "mac int8 7 nm" names."""
    first, second, *node = text.split()
    table = energy_table(parse_quantity(" ".join(node), "length"), "ddr4")
    found = table.value("mac", second) if first == "mac" else table.value("arithmetic", f"{first} {second}")
    return found.joules * 1e12


def dram_pj(kind: str, _: float = 0.0) -> float:
    """Picojoules of a bit of a kind of DRAM, the same at every node of the machine beside it."""
    return energy_table(7e-9, kind).value("dram", "read").joules * 1e12


def stc_ratio(text: str, _: float = 0.0) -> float:
    """Energy over dense of the product and pattern that a text like "128 x 1024 x 1152 at 2:4" (m, n, k) names."""
    shape, pattern = text.split(" at ")
    return stc.ratio(*_shape(shape), Pattern.parse(pattern))


PREDICT: dict[str, Callable[[str, float], float]] = {
    "stream": stream_w,
    "gemm": gemm_w,
    "mma": mma_pj_per_flop,
    "sram": sram_pj,
    "arithmetic": arithmetic_pj,
    "dram": dram_pj,
    "stc": stc_ratio,
}
"""What predicts each kind of point, from its device and rate."""


def sram_points(folder: Path = DATA) -> list[Point]:
    """For reads, writes and leakage of the fast cells: the runs' geometric mean beside the law's, its tolerance on the
    worst run; the law was fitted to these runs."""
    table = read_table(folder / RUNS, ("cell", "node_nm", "size_bytes", "access_bits", "read_pj", "write_pj"))
    table = table.select(table.words("cell") == "itrs-hp")
    node, size, width = (table.numbers(c) for c in ("node_nm", "size_bytes", "access_bits"))
    found = []
    for column in ("read_pj", "write_pj"):
        y = table.numbers(column)
        models = {n: energy_table(n * 1e-9, "ddr4").sram for n in np.unique(node).tolist()}
        law = np.array([
            getattr(models[n], f"{column[:-3]}_j")(s, w) for n, s, w in zip(node.tolist(), size, width, strict=True)
        ]) * 1e12  # fmt: skip
        worst = int(np.argmax(np.abs(np.log(law / y))))
        what = (
            f"worst of {len(y)} runs, {column[:-3]}: {size[worst] / 1024:g} KiB {width[worst]:g} bit {node[worst]:g} nm"
        )
        rms = float(np.sqrt(np.mean(np.log(law / y) ** 2)))
        source = f"CACTI 7 runs; rms residual {100 * rms:.1f} %"
        found.append(Point("SRAM law and its runs", what, y[worst], law[worst], "pJ", TOLERANCE, "calibrated", source))
    return found


def refit(folder: Path = DATA, column: str = "read_pj", cell: str = "itrs-hp") -> tuple[np.ndarray, np.ndarray]:
    """The law's coefficients fitted again to the runs, and the residuals of the logarithm."""
    table = read_table(folder / RUNS, ("cell", "node_nm", "size_bytes", "access_bits", column))
    table = table.select(table.words("cell") == cell)
    node, size, width, y = (table.numbers(c) for c in ("node_nm", "size_bytes", "access_bits", column))
    return fit(node * 1e-9, size, width, y)


def scaling_points() -> list[Point]:
    """Horowitz's arithmetic at 45 nm, each action scaled from 7 nm with the mean exponent of the others.

    An action leaves its own exponent out, so that nothing of the value at 45 nm is in its prediction.
    """
    entries = {(e.action, round(e.node * 1e9)): e for e in load_files("asic")[0].entries if e.component == "arithmetic"}
    actions = [a for a, node in entries if node == 45 and entries[a, 45].source is not None]
    exponent = {a: log(entries[a, 45].value / entries[a, 7].value) / log(45 / 7) for a in actions}
    found = []
    for action in actions:
        others = float(np.mean([exponent[a] for a in actions if a != action]))
        predicted = entries[action, 7].value * (45 / 7) ** others
        found.append(
            Point(
                "Horowitz's 45 nm from 7 nm", action, entries[action, 45].value * 1e12, predicted * 1e12, "pJ",
                TOLERANCE, "validated", "leave-one-out exponent; 7 nm from memory of Jouppi et al., ISCA 2021",
            )
        )  # fmt: skip
    return found


def record(point: Point) -> dict[str, object]:
    """A point as plain data."""
    return {**vars(point), "error": point.error, "within": point.within}
