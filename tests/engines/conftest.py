"""What the tests of engines share."""

from __future__ import annotations

import pytest

import nmsim


@pytest.fixture(scope="session", autouse=True)
def _tables_are_read() -> None:
    """Read the energy tables before a property's first example, whose time is limited."""
    for name in ("a100_sxm4_80gb", "sat_vcu1525"):
        nmsim.simulate(name, nmsim.gemm(8, 8, 8))
