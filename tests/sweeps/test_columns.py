"""Columns of codes: what is distinct among them."""

from __future__ import annotations

import numpy as np
import pytest

from nmsim.sweeps.columns import combine, distinct


@pytest.mark.parametrize("largest", [1, 30, 390, 10**12])
def test_what_is_distinct_is_what_np_unique_finds(largest):
    """Codes that fill their range and codes that are scattered over it take different ways."""
    for size in (0, 1, 100):
        codes = np.random.default_rng(largest).integers(0, largest, size)
        expected = np.unique(codes, return_index=True, return_inverse=True)
        for found, wanted in zip(distinct(codes), expected, strict=True):
            assert found.tolist() == wanted.tolist()


def test_combinations_of_columns_are_pairs():
    rng = np.random.default_rng(0)
    one, two = rng.integers(0, 5, 60), rng.integers(0, 7, 60)
    codes, first = combine([one, two], 60)
    pairs = list(zip(one.tolist(), two.tolist(), strict=True))
    assert len(first) == len(set(pairs)) == codes.max() + 1
    assert [pairs[first[code]] for code in codes] == pairs
