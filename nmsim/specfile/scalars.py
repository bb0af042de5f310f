"""What an unquoted word of YAML means, by the core schema of YAML 1.2 (section 10.3.2)."""

from __future__ import annotations

import math
import re
from typing import Literal

Scalar = str | int | float | bool | None
Kind = Literal["null", "bool", "int", "float", "str"]

MAX_INTEGER = 2**63 - 1

_WORDS: dict[str, Scalar] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_BASES = {"0o": 8, "0x": 16}


def resolve(text: str) -> Scalar:
    """The value of the plain scalar `text`: so `2:4`, `no` and `1_000` are texts, `0o14` is 12 and `1e9` a float.

    Raises ValueError for infinity, not-a-number, and an integer beyond 64 bits.
    """
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return _integer(text)
    if _FLOAT.fullmatch(text):
        return _finite(float(text), text)
    if _NOT_FINITE.fullmatch(text):
        return _finite(math.inf, text)
    return text


def kind_of(value: Scalar) -> Kind:
    """The core tag, without its prefix, of a resolved value."""
    if value is None:
        return "null"
    # bool before int: a bool is an int in Python.
    kinds: tuple[tuple[type, Kind], ...] = ((bool, "bool"), (int, "int"), (float, "float"))
    return next((kind for cls, kind in kinds if isinstance(value, cls)), "str")


def cast(text: str, kind: str) -> Scalar:
    """The value of `text` under the explicit core tag `kind` (`!!float 1` is 1.0); raises ValueError if it has none."""
    if kind == "str":
        return text
    value = resolve(text)
    if kind == "float" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind_of(value) != kind:
        raise ValueError(f"{text[:60]!r} is not a !!{kind}")
    return value


def _integer(text: str) -> int:
    # The length is looked at first: Python refuses to convert very long decimals, with words of its own.
    value = int(text[2:], _BASES[text[:2]]) if text[:2] in _BASES else int(text) if len(text) < 40 else math.inf
    if abs(value) > MAX_INTEGER:
        raise ValueError(f"the integer {text[:40]}{'…' * (len(text) > 40)} does not fit in 64 bits")
    return int(value)


def _finite(value: float, text: str) -> float:
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is not a finite number")
    return value
