"""Moments of a run: a step, or a share of all steps, as a recipe states when something begins or ends."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, WithJsonSchema

_SHARE = re.compile(r"\s*([0-9.]+)\s*%\s*")


def parse_moment(value: Any) -> int | float:
    """A step (int) or a share of the run (float of 0 to 1, also written `30 %`); raises ValueError for all else."""
    if isinstance(value, str) and (match := _SHARE.fullmatch(value)) and match[1].count(".") < 2 and match[1] != ".":
        value = float(match[1]) / 100
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise ValueError(f"expected a step, as 300, or a share of the run, as 30 %; got {value!r}")
    if isinstance(value, float) and value > 1:
        raise ValueError(f"a share of the run is at most 100 %, got {value:.6g}; steps are whole numbers")
    return value


def parse_start(value: Any) -> int | float | str:
    """As `parse_moment`, or `auto`."""
    if value == "auto":
        return "auto"
    try:
        return parse_moment(value)
    except ValueError as error:
        raise ValueError(str(error).replace("30 %; got", "30 %, or auto; got")) from None


_SCHEMA: list[dict[str, Any]] = [
    {"type": "integer", "minimum": 0, "description": "a step"},
    {"type": "number", "minimum": 0, "maximum": 1, "description": "a share of the run"},
    {"type": "string", "pattern": r"^\s*[0-9.]+\s*%\s*$", "examples": ["30 %"]},
]
_AUTO = {"const": "auto", "description": "when the run decides"}

Moment = Annotated[int | float, BeforeValidator(parse_moment), WithJsonSchema({"anyOf": _SCHEMA})]
Start = Annotated[
    int | float | Literal["auto"], BeforeValidator(parse_start), WithJsonSchema({"anyOf": [*_SCHEMA, _AUTO]})
]


def is_end(moment: int | float | str) -> bool:
    """Whether a moment is the end of the run; the whole number 1 is a step."""
    return isinstance(moment, float) and moment == 1.0


def step_of(moment: int | float, steps: int) -> int:
    """The step that a moment of a run of `steps` is; a share is rounded to the nearest step."""
    return moment if isinstance(moment, int) else round(moment * steps)
