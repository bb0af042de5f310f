"""The argument parser of every verb, and the kinds of arguments that verbs share."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from nmsim.errors import nearest, unknown

MOST_DIGITS = 100


class Parser(argparse.ArgumentParser):
    """An argparse parser without abbreviations, whose message on an unknown option names the nearest one."""

    def __init__(self, **options: Any):
        super().__init__(**options, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter)

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """The arguments as a namespace; leaves with status 2 and a message when they are not right."""
        names = [word.split("=")[0] for word in args or () if word.startswith("--")]
        if bad := [name for name in names if name not in (*self._option_string_actions, "--")]:
            close = nearest(bad[0], self._option_string_actions, limit=1)
            self.error(f"unknown option {bad[0]!r}" + (f"; did you mean {close[0]}?" if close else ""))
        return super().parse_args(args, namespace)

    def _print_message(self, message: str, file: Any = None) -> None:
        """Write the help or an error; argparse would keep silent about a full disk."""
        (file or sys.stderr).write(message or "")


def whole(text: str) -> int:
    """A whole number of at least 1."""
    return _at_least(1, text)


def whole_or_none(text: str) -> int:
    """A whole number of at least 0."""
    return _at_least(0, text)


def amount(text: str) -> float:
    """A number of at least 0."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number of at least 0, not {text!r:.60}")
    return value


def word(text: str) -> str:
    """A text that is not empty."""
    if not text.strip():
        raise argparse.ArgumentTypeError("must not be empty")
    return text


def one_of(what: str, allowed: Iterable[str]) -> Callable[[str], str]:
    """The kind of argument that is one of these names; `what` they are is for the message."""
    names = tuple(allowed)

    def chosen(text: str) -> str:
        if text not in names:
            raise argparse.ArgumentTypeError(unknown(what, text, names))
        return text

    return chosen


def pair(text: str) -> tuple[str, str]:
    """The two sides of `name=value`."""
    name, sign, value = text.partition("=")
    if not (sign and name.strip() and value.strip()):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form name=value")
    return name.strip(), value.strip()


def length(text: str) -> int | tuple[str, int]:
    """A number of tokens, or `stream=tokens`."""
    if "=" not in text:
        return whole(text)
    name, value = pair(text)
    return name, whole(value)


def add_formats(parser: argparse.ArgumentParser, csv: str = "the table") -> None:
    """The options `--json` and `--csv`, which exclude each other; `csv` says what the latter prints."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--json", action="store_true", help="print JSON")
    group.add_argument("--csv", action="store_true", help=f"print {csv} as CSV")


def _at_least(minimum: int, text: str) -> int:
    digits = text.strip()
    value = int(digits) if digits.isascii() and digits.isdecimal() and len(digits) <= MOST_DIGITS else minimum - 1
    if value < minimum:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least {minimum}, not {text!r:.60}")
    return value
