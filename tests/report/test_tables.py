"""Figures in words, and tables whose columns line up within the width."""

from __future__ import annotations

import math

import pytest

from nmsim.report.tables import bar, last_part, percent, prefixed, quantity, shorten, table


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (2.589, "s", "2.589 s"),
        (36_000.0, "s", "10.00 h"),
        (9_999.0, "s", "9999 s"),
        (0.671, "1", "67.1 %"),
        (1e-6, "1", "<0.1 %"),
        (356e9, "MAC", "356 GMAC"),
        (999.96e9, "MAC/s", "1 TMAC/s"),
        (517.8e6, "cycles", "517.8 M"),
        (0.0, "MAC", "0 MAC"),
        (0.25, "MAC/B", "0.25 MAC/B"),
        (11.91e9, "B", "11.91 GB"),
        (math.nan, "J", "unknown"),
    ],
)
def test_quantities_carry_the_unit_that_keeps_them_short(value, unit, text):
    assert quantity(value, unit) == text


def test_counts_beyond_the_prefixes_keep_the_largest():
    assert prefixed(1e27) == "1e+06 Z"
    assert percent(0.0) == "0.0 %"


def test_a_bar_is_as_long_as_its_share():
    """16 characters at share 1, half a character at 1/32, a hint of what is not nothing."""
    assert bar(1.0) == "█" * 16
    assert bar(1 / 32) == "▌"
    assert bar(1e-9) == "▏"
    assert bar(0.0) == ""


def test_columns_line_up_and_the_last_one_wraps():
    text = table(
        [["a", "1", "some words that need more than one line"], ["bcd", "22", "x"]], ["n", "v", "why"], "lrl", 0, 30
    )
    assert text.splitlines() == [
        "n     v  why",
        "---  --  ---------------------",
        "a     1  some words that need",
        "         more than one line",
        "bcd  22  x",
    ]


def test_names_are_cut_where_they_tell_least():
    assert shorten("abcdefghij", 5) == "ab…ij"
    assert last_part("model.layers.*.self_attn.q_proj", 20) == "…*.self_attn.q_proj"
    assert last_part("short", 20) == "short"


def test_terminal_controls_do_not_reach_the_terminal():
    assert "\x1b" not in table([["\x1b[31mred", "x"]])


def test_an_empty_table_is_empty():
    assert table([]) == ""
