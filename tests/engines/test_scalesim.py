"""`fold_overlap: none` against cycle counts of SCALE-Sim 3.0.0, to the cycle."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

import nmsim
from nmsim.arch.schema import SystolicArch
from nmsim.workloads.optable import Workload


def classical(rows: int, columns: int, dataflow: str) -> SystolicArch:
    """A plain array as SCALE-Sim sees it: serial folds, memory never in the way."""
    return nmsim.load_arch(
        "systolic_32x32",
        overrides={
            "array.rows": rows,
            "array.columns": columns,
            "array.dataflows": [dataflow],
            "array.fold_overlap": "none",
            "memories.dram.bandwidth": "1e9 TB/s",
            "memories.c_buffer": "1 GiB",
            "sparsity.max_group": 64,
        },
    )


def product(m: int, n: int, k: int, pattern: str = "dense") -> Workload:
    return nmsim.gemm(m, n, k, pattern=pattern, operand="B", dtype="fp16")


@pytest.mark.parametrize(
    ("dataflow", "pattern", "cycles"),
    [("os", "dense", 503), ("os", "2:8", 311), ("ws", "dense", 631), ("ws", "2:8", 315), ("is", "dense", 631)],
)
def test_hand_count(dataflow: str, pattern: str, cycles: int):
    """m = n = k = 64 on 32x32; the tool prints one less than the count.

    OS: 2*2 folds of 64 + 62 = 504; 2:8 leaves k' = 16: 4 * (16 + 62) = 312.
    WS: 2*2 folds of 64 + 94 = 632; 2:8: ceil(16/32) * 2 folds of 158 = 316. IS is WS with m and n exchanged.
    """
    result = nmsim.simulate(classical(32, 32, dataflow), product(64, 64, 64, pattern))
    assert result.cycles == cycles + 1


def test_tail_of_k_keeps_up_to_n():
    """k = 70 at 2:8: 8 full groups and a tail of 6 keep 16 + 2 = 18; one OS fold on 32x32: 18 + 62 = 80."""
    assert nmsim.simulate(classical(32, 32, "os"), product(32, 32, 70, "2:8")).cycles == 80


NEEDED = {"tool", "dataflow", "rows", "cols", "M", "N", "K", "sparsity", "cycles"}


def peer_rows(golden: Path) -> list[dict[str, str]]:
    """Every row of SCALE-Sim in the tables of the directory, whatever their names."""
    tables = [csv.DictReader(path.read_text().splitlines()) for path in sorted((golden / "peers").glob("*.csv"))]
    of_this_form = [table for table in tables if set(table.fieldnames or ()) >= NEEDED]
    return [row for table in of_this_form for row in table if row["tool"].lower().startswith("scalesim")]


def test_every_row_of_the_peer_tables(golden: Path):
    """`cycles` in the tables is the tool's printed total, one less than the count; sparsity reads `layer n:m ...`."""
    rows = peer_rows(golden)
    if not rows:
        pytest.skip(f"no table of SCALE-Sim cycles in {golden / 'peers'}")
    machines: dict[tuple[int, int, str], SystolicArch] = {}
    wrong = []
    for row in rows:
        key = (int(row["rows"]), int(row["cols"]), row["dataflow"].lower())
        if key not in machines:
            machines[key] = classical(*key)
        pattern = row["sparsity"].removeprefix("layer").split()[0]
        result = nmsim.simulate(machines[key], product(int(row["M"]), int(row["N"]), int(row["K"]), pattern))
        if result.cycles - 1 != int(row["cycles"]):
            wrong.append((row, float(result.cycles) - 1))
    assert not wrong


@pytest.mark.parametrize("dataflow", ["os", "ws", "is"])
def test_closed_forms(dataflow: str):
    """The published closed forms, written out once more, over random sizes and patterns."""
    rng = np.random.default_rng(7)
    for _ in range(200):
        rows, columns, m, n, k = (int(x) for x in rng.integers(1, [64, 64, 400, 400, 400]) + 1)
        keep, group = sorted(int(x) for x in rng.integers(1, 17, 2))
        pattern = f"{keep}:{group}" if keep < group else "dense"
        left = k if pattern == "dense" else k // group * keep + min(keep, k % group)
        expected = {
            "os": -(-m // rows) * -(-n // columns) * (left + rows + columns - 2),
            "ws": -(-left // rows) * -(-n // columns) * (m + 2 * rows + columns - 2),
            "is": -(-left // rows) * -(-m // columns) * (n + 2 * rows + columns - 2),
        }[dataflow]
        result = nmsim.simulate(classical(rows, columns, dataflow), product(m, n, k, pattern))
        assert result.cycles == expected
