"""Patterns: what their texts mean, how many elements they keep, and what is refused."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmsim.errors import NmsimError, PatternError
from nmsim.sparsity.pattern import DENSE, Pattern


@st.composite
def patterns(draw):
    kind = draw(st.sampled_from(["dense", "nm", "vnm", "fan_in", "unstructured"]))
    axis = draw(st.integers(-3, 2))
    if kind == "nm":
        m = draw(st.integers(1, 64))
        return Pattern.nm(draw(st.integers(1, m)), m, axis)
    if kind == "vnm":
        return Pattern.vnm(draw(st.integers(1, 128)), draw(st.integers(1, 4)), draw(st.integers(4, 64)), axis)
    if kind == "fan_in":
        return Pattern.fan_in(draw(st.integers(1, 10_000)), axis)
    if kind == "unstructured":
        return Pattern.unstructured(draw(st.floats(0, 1, exclude_min=True)), axis)
    return Pattern(axis=axis)


@given(patterns())
def test_the_text_of_a_pattern_reads_back_equal_and_hashes_alike(pattern):
    again = Pattern.parse(str(pattern), pattern.axis)
    assert again == pattern
    assert hash(again) == hash(pattern)
    assert pickle.loads(pickle.dumps(pattern)) == pattern


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2:4", Pattern("nm", 2, 4, 1, 0.5)),
        (" 2:8 ", Pattern("nm", 2, 8, 1, 0.25)),
        ("64:2:8", Pattern("vnm", 2, 8, 64, 0.25)),
        ("fan-in:96", Pattern("fan_in", 96, density=0.0)),
        ("fan_in:96", Pattern("fan_in", 96, density=0.0)),
        ("UNSTRUCTURED:0.1", Pattern("unstructured", density=0.1)),
        ("Dense", DENSE),
    ],
)
def test_texts(text, expected):
    assert Pattern.parse(text) == expected


@pytest.mark.parametrize("text", ["4:4", "1:1", "unstructured:1", "16:4:4"])
def test_what_keeps_everything_is_dense(text):
    assert Pattern.parse(text).is_dense


@pytest.mark.parametrize("text", ["1:2:8", "64:2:4"])
def test_vnm_of_one_row_or_four_columns_is_plain_nm(text):
    """One row has no one to share columns with; of 4 columns, all 4 are kept."""
    assert Pattern.parse(text).kind == "nm"


@pytest.mark.parametrize(
    "text",
    ["", "2", "5:4", "0:4", "2:129", "2:4:", "a:b", "-1:4", "2.0:4", "64:5:8", "64:2:3", "0:2:8", "fan-in:0",
     "fan-in:x", "unstructured:0", "unstructured:1.5", "unstructured:nan", "unstructured:", "9" * 5000 + ":4"],
)  # fmt: skip
def test_what_is_no_pattern_is_refused(text):
    with pytest.raises(PatternError, match="not a pattern"):
        Pattern.parse(text)


def test_what_is_no_text_is_refused_by_an_error_that_is_also_a_value_error():
    with pytest.raises(NmsimError, match="accepted"):
        Pattern.parse(0.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError):
        Pattern.parse(None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "length", "kept"),
    [
        ("2:4", 8, 4),
        ("2:4", 9, 5),
        ("2:4", 11, 6),
        ("1:4", 3, 1),
        ("64:2:8", 17, 5),
        ("fan-in:6", 4, 4),
        ("fan-in:6", 40, 6),
        ("unstructured:0.1", 42, 4),
        ("dense", 7, 7),
    ],
)
def test_kept(text, length, kept):
    """A tail keeps min(n, r): 2:4 keeps 4 of 8, 1 more of a tail of 1 and 2 more of a tail of 3."""
    assert Pattern.parse(text).kept(length) == kept
    assert Pattern.parse(text).density_along(length) == kept / length


@given(patterns(), st.integers(1, 300))
def test_kept_lies_within_the_length_and_never_falls_as_the_length_grows(pattern, length):
    assert 0 <= pattern.kept(length) <= length
    assert pattern.kept(length) <= pattern.kept(length + 1)


def test_along_moves_the_axis_only():
    assert Pattern.nm(2, 4).along(0) == Pattern.nm(2, 4, axis=0)


@pytest.mark.parametrize(
    "fields",
    [("2:4",), ("nm", 5, 4), ("nm", 2, 4), ("nm", 2, 4, 1, 0.25), ("nm", 2, 129, 1, 2 / 129), ("vnm", 2, 8, 1, 0.25),
     ("fan_in", 0, 1, 1, 0.0), ("unstructured", 1, 1, 1, 1.5), ("dense", 1, 2), ("nm", 2, 4, 1, 0.5, "k")],
)  # fmt: skip
def test_fields_that_make_no_pattern_are_refused(fields):
    with pytest.raises(PatternError, match=r"make one as Pattern\.parse"):
        Pattern(*fields)
