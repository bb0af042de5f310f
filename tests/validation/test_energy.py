"""Validation of energies: the predictions by hand, the fit of the shipped law, and which figures are missed."""

from __future__ import annotations

import csv
from math import exp
from pathlib import Path

import numpy as np
import pytest

from nmsim.cli.main import main
from nmsim.energy.files import load_files
from nmsim.errors import SpecError
from nmsim.validation import stc
from nmsim.validation.energy import (
    POINTS,
    RUNS,
    mma_pj_per_flop,
    refit,
    sram_read_pj,
    stream_w,
    validate_energy,
)
from nmsim.validation.settings import DATA

REFERENCE = Path(__file__).parents[2].parent / "shared/golden/peers/sparseloop_stc_reference.csv"


def test_the_figures_that_are_missed_are_these():
    """Of 40 per cent, which energy tables are trusted to: the RTX 4090's idle power is an order of magnitude from
    memory, and a 32-bit integer multiplier shrank less than the other arithmetic."""
    points = validate_energy()
    assert [p.what for p in points if not p.within] == ["rtx4090", "int32 multiply"]
    assert max(p.tolerance for p in points) == 0.4
    assert {p.status for p in points} == {"validated", "calibrated"}
    assert all(p.source for p in points)


def test_a_streaming_board_by_hand():
    """A100: 66.5 W + 14.8 pJ/bit x 8 x 1375 GB/s = 229.3 W, but for the launch of the kernel."""
    assert stream_w("a100_sxm4_40gb", 1375e9) == pytest.approx(66.5 + 14.8e-12 * 8 * 1375e9, rel=0.01)


def test_tensor_cores_in_registers_by_hand():
    """A100: (0.34 + 0.16) pJ a MAC are 0.25 a FLOP, and 66.5 W over 310.4 TFLOP/s 0.214."""
    assert mma_pj_per_flop("a100_sxm4_40gb", 310.4e12) == pytest.approx(0.25 + 66.5 / 310.4, rel=1e-3)


def test_an_sram_by_hand():
    """45 nm, 8 KiB, 64 bit: 2.10995 x 8^0.5348 = 6.416 pJ."""
    assert sram_read_pj("8 KiB 64 bit 45 nm") == pytest.approx(2.10995 * 8**0.5348, rel=1e-6)


@pytest.mark.parametrize(
    ("column", "cell", "law"),
    [
        ("read_pj", "itrs-hp", "read"), ("write_pj", "itrs-hp", "write"), ("leakage_mw", "itrs-hp", "leakage"),
        ("leakage_mw", "itrs-lstp", "low_power_leakage"),
    ],
)  # fmt: skip
def test_the_shipped_law_is_the_fit_of_the_shipped_runs(column, cell, law):
    """Least squares again: coefficients to the digits of the file, residuals as it states them."""
    found, residuals = refit(column=column, cell=cell)
    stated = getattr(load_files("asic")[0].sram, law)
    unit = 1e-3 if column == "leakage_mw" else 1e-12
    assert exp(found[0]) * unit == pytest.approx(stated.base, rel=1e-3)
    assert found[1:] == pytest.approx([stated.node, stated.size, stated.width], abs=1e-3)
    assert np.sqrt(np.mean(residuals**2)) == pytest.approx(stated.rms, abs=1e-3)
    assert np.exp(np.abs(residuals)).max() - 1 == pytest.approx(stated.worst, abs=2e-3)


def test_a_point_of_an_unknown_kind_is_refused(tmp_path):
    lines = (DATA / POINTS).read_text().splitlines()
    (tmp_path / POINTS).write_text("\n".join([lines[0], lines[1].replace(",stream,", ",steam,")]) + "\n")
    (tmp_path / RUNS).write_text((DATA / RUNS).read_text())
    with pytest.raises(SpecError, match=r"energy_points\.csv:2.*steam.*allowed: stream"):
        validate_energy(tmp_path)


def test_the_verb_prints_the_points_and_tells_of_the_missed_ones(capsys, tmp_path):
    assert main(["validate", "energy", "-o", str(tmp_path / "o")]) == 1
    text = capsys.readouterr().out
    assert "Sparseloop, 2:4 over dense" in text
    assert "21 of 23 figures" in text
    assert (tmp_path / "o" / "energy.csv").is_file()
    assert main(["validate", "energy", "--tolerance", "5"]) == 2


def test_a_sparseloop_core_by_hand():
    """1 x 1 x 1 dense: 0.5608 + 0.072 + 2 x 1.67/8 pJ to compute, 2 values through shared memory with tiles of 64:
    2/64/32 x 285.7 read and 2/32 x 317 written, 3 values of 8 bits at 8 pJ."""
    parts = 0.5608 + 0.072 + 3.34 / 8 + 2 / 64 / 32 * 285.7 + 2 / 32 * 317 + 3 * 64
    assert stc.energy_j(stc.DENSE, 1, 1, 1) == pytest.approx(parts * 1e-12)


@pytest.mark.skipif(not REFERENCE.is_file(), reason="no reference results")
def test_sparseloop_energies_of_every_layer():
    """Dense, and 2:4 at half density, on three layers: totals within 15 %, ratios within 12 %. One layer gave depth
    and tile."""
    with REFERENCE.open() as stream:
        rows = [row for row in csv.DictReader(stream) if row["weight_density"] == "0.5"]
    energies: dict[tuple[str, ...], dict[str, float]] = {}
    for row in rows:
        energies.setdefault((row["M"], row["N"], row["K"]), {})[row["design"].split("-")[0]] = float(row["energy_uJ"])
    assert len(energies) == 3
    for shape, stated in energies.items():
        m, n, k = map(int, shape)
        dense, sparse = stc.energy_j(stc.DENSE, m, n, k), stc.energy_j(stc.SPARSE, m, n, k, 0.5)
        assert dense * 1e6 == pytest.approx(stated["TC"], rel=0.15)
        assert sparse * 1e6 == pytest.approx(stated["STC"], rel=0.15)
        assert sparse / dense == pytest.approx(stated["STC"] / stated["TC"], rel=0.12)
