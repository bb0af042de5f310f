"""Quantities: the SI values of units, what is refused and why, and that what is printed can be read back."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmsim.errors import NmsimError
from nmsim.units import UnitError, example_of, format_quantity, parse_quantity, units_of

DIMENSIONS = (
    "frequency", "bandwidth", "size", "bytes_per_cycle", "time", "energy", "energy_per_bit", "power", "length",
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "dimension", "value"),
    [
        ("1.2 GHz", "frequency", 1.2e9),
        ("25.6 GB/s", "bandwidth", 25.6e9),
        ("10 Gb/s", "bandwidth", 1.25e9),  # eight bits to the byte
        ("1 GiB/s", "bandwidth", 2**30),
        ("64KiB", "size", 65536),
        ("64 kB", "size", 64000),
        ("12 bit", "size", 1.5),
        ("128 B/clk", "bytes_per_cycle", 128),
        ("128 B/cycle", "bytes_per_cycle", 128),
        ("5 us", "time", 5e-6),
        ("5 µs", "time", 5e-6),
        ("0.1 pJ", "energy", 1e-13),  # 0.1 * 1e-12 is not 1e-13 in binary; the decimal product is
        ("8 pJ/B", "energy_per_bit", 1e-12),
        ("3.9 pJ/bit", "energy_per_bit", 3.9e-12),
        ("2.5e2 W", "power", 250),
        ("  7   nm ", "length", 7e-9),
    ],
)
def test_the_si_value_is_exact(text, dimension, value):
    assert parse_quantity(text, dimension) == value


@pytest.mark.parametrize(
    ("text", "dimension", "message"),
    [
        ("25.6", "energy", "'25.6' needs a unit: one of fJ, pJ, nJ, uJ, mJ, J, µJ"),
        (25.6, "energy", "'25.6' needs a unit: one of fJ, pJ, nJ, uJ, mJ, J, µJ"),
        ("5 KB", "size", "unknown unit 'KB' for a size; did you mean kB? allowed: B, kB, MB, GB, TB, KiB"),
        ("1 gb/s", "bandwidth", "unknown unit 'gb/s' for a bandwidth; did you mean GB/s or Gb/s?"),
        ("5 GB", "frequency", "unknown unit 'GB' for a frequency"),
        ("0 GHz", "frequency", "a frequency must be greater than 0, got '0 GHz'"),
        ("-3 pJ", "energy", "an energy must be greater than 0, got '-3 pJ'"),
        ("1e999 s", "time", "'1e999 s' is too large"),
        ("nan s", "time", "'nan s' is not a time; write it as '10 ns'"),
        (math.inf, "time", "'inf' is not a time; write it as '10 ns'"),
        ("1_000 B", "size", "unknown unit '_000 B' for a size"),
        ("", "length", "'' is not a length; write it as '7 nm'"),
        ("9" * 1000 + " B", "size", "'99999"),
        (True, "power", "expected a power such as '250 W', got True"),
        (None, "power", "expected a power such as '250 W', got None"),
        (["1 W"], "power", "expected a power such as '250 W', got ['1 W']"),
    ],
)
def test_a_refusal_names_the_value_and_what_is_allowed(text, dimension, message):
    with pytest.raises(UnitError) as caught:
        parse_quantity(text, dimension)
    assert str(caught.value).startswith(message)
    assert isinstance(caught.value, NmsimError)
    assert isinstance(caught.value, ValueError)


def test_zero_and_a_minimum_are_the_callers_choice():
    assert parse_quantity("0 pJ", "energy", allow_zero=True) == 0
    with pytest.raises(UnitError, match=r"an energy must not be negative, got '-1 pJ'"):
        parse_quantity("-1 pJ", "energy", allow_zero=True)
    with pytest.raises(UnitError, match=r"must be at least 1 kB, got '999 B'"):
        parse_quantity("999 B", "size", minimum=1000)


@pytest.mark.parametrize(
    ("value", "dimension", "text"),
    [
        (25.6e9, "bandwidth", "25.6 GB/s"),
        (999.96e6, "bandwidth", "1 GB/s"),  # rounds up into the next unit
        (999.94e6, "bandwidth", "999.9 MB/s"),
        (0, "energy", "0 J"),
        (-3e-4, "time", "-300 us"),
        (128, "bytes_per_cycle", "128 B/clk"),
        (3.9e-12, "energy_per_bit", "3.9 pJ/bit"),
        (1e-18, "energy", "0.001 fJ"),  # below the smallest unit
        (5e15, "size", "5000 TB"),  # above the largest
        (math.nan, "power", "nan W"),
    ],
)
def test_printed_with_the_unit_that_fits(value, dimension, text):
    assert format_quantity(value, dimension) == text


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_the_example_of_a_dimension_is_valid(dimension):
    assert parse_quantity(example_of(dimension), dimension) > 0
    assert all(parse_quantity(f"1 {unit}", dimension) > 0 for unit in units_of(dimension))


@given(st.sampled_from(DIMENSIONS), st.floats(1e-20, 1e20), st.integers(1, 17))
def test_what_is_printed_reads_back_to_its_digits(dimension, value, digits):
    """Printing to d significant digits moves a value by at most half a unit of the last: 0.5 * 10^(1-d) of it.

    The term 1e-15 covers the two roundings of the scaling itself.
    """
    back = parse_quantity(format_quantity(value, dimension, digits), dimension)
    assert math.isclose(back, value, rel_tol=0.5 * 10 ** (1 - digits) + 1e-15)


@given(st.text(), st.sampled_from(DIMENSIONS))
def test_any_text_is_a_quantity_or_a_unit_error(text, dimension):
    try:
        value = parse_quantity(text, dimension)
    except UnitError:
        return
    assert 0 < value < math.inf
