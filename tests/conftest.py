"""What all tests share: where the reference vectors lie."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent

# The same examples each time: what passed passes again, however busy the machine. `make fuzz` draws new ones.
settings.register_profile("nmsim", deadline=None, derandomize=True)
settings.register_profile("fuzz", deadline=None, max_examples=300)
settings.load_profile("nmsim")


def golden_dir() -> Path:
    """The folder of reference vectors, `NMSIM_GOLDEN` or one beside the checkout."""
    return Path(os.environ.get("NMSIM_GOLDEN", ROOT.parent / "shared" / "golden"))


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of reference vectors; tests that need it are skipped where it is absent."""
    if not golden_dir().is_dir():
        pytest.skip("no reference vectors here (set NMSIM_GOLDEN)")
    return golden_dir()
