"""Sparse products whose times are cited, not shipped: single figures of trackers; skipped where not at hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nmsim.validation.datasets import Report, validate

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "silicon"


@pytest.fixture(scope="module")
def report() -> Report:
    if not (FOLDER / "measured_gemm.csv").is_file():
        pytest.skip("no tables of cited measurements")
    return validate(FOLDER, ["pt_90119_*", "ao_174_rtx4070*"])


def test_2_4_on_an_a100(report):
    """Four times of two libraries (pytorch/pytorch PR #90119), to which a cycle count of their main loop was fitted."""
    found = [s for s in report.sets if s.name.startswith("pt_90119_a100_fp16_2:4")]
    error = np.concatenate([s.predicted_s / s.measured_s - 1 for s in found])
    assert len(error) == 4
    assert np.abs(error).mean() < 0.07


def test_2_4_gains_less_on_a_geforce_as_shapes_outgrow_its_l2(report):
    """m = n from 3072 to 9216, k = 10240 (pytorch/ao issue #174): 1.9 up to 5120, then 1.64, 1.46, 1.40. Only the
    clock was fitted, to the dense times. Thread blocks that follow m fetch A again for every column of tiles."""
    (gains,) = (g for g in report.gains if "rtx4070" in g.name)
    np.testing.assert_allclose(gains.predicted, gains.measured, rtol=0.1)
    assert (gains.predicted[:3] > 1.9).all()
    assert (np.diff(gains.predicted[2:]) < 0).all()
    assert gains.predicted[-1] < 1.5
