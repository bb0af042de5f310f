"""From a YAML 1.2 file to a document; a file that cannot be read becomes a SpecError that says where and why."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path as FilePath

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.events import Event

from nmsim.errors import Problem, SpecError, nearest
from nmsim.specfile.compose import compose, expand
from nmsim.specfile.document import Document

MAX_BYTES = 16 * 10**6

# Everything that YAML 1.2 (section 5.1) does not count as printable.
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def read(path: str | os.PathLike[str]) -> Document:
    """The document in the file at `path`; raises SpecError if it cannot be read."""
    name = os.fspath(path)
    try:
        with FilePath(name).open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise SpecError([Problem(name, 1, 1, "", _why_closed(name, error))]) from None
    if len(raw) > MAX_BYTES:
        raise SpecError([Problem(name, 1, 1, "", f"the file is larger than {MAX_BYTES // 10**6} MB")])
    return read_text(_decoded(raw, name), name)


def read_text(text: str, name: str = "<text>") -> Document:
    """The document that `text` writes, under the file name `name`; raises SpecError if it cannot be read."""
    text = text.removeprefix("\ufeff")
    if bad := _UNPRINTABLE.search(text):
        line, column = _place(text[: bad.start()])
        code = f"U+{ord(bad.group()):04X}"
        raise SpecError(
            [Problem(name, line, column, "", f"the character {code} cannot stand in a YAML file; is it text?")]
        )
    root = compose(_events(text, name), name)
    if root is None or root.value is None:
        raise SpecError([Problem(name, 1, 1, "", "the file is empty")])
    data, positions, keys = expand(root)
    return Document(name, data, positions, keys)


def _events(text: str, name: str) -> Iterator[Event]:
    """The parser's events; whatever goes wrong inside the parser is an error of the text."""
    parser = YAML(typ="safe", pure=True).parse(text)
    line, column = 1, 1
    while True:
        try:
            event = next(parser)
        except StopIteration:
            return
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            if mark:
                line, column = mark.line + 1, mark.column + 1
            raise SpecError([Problem(name, line, column, "", _explained(error))]) from None
        except Exception as error:  # ruamel lets ValueError, OverflowError and others out of odd escapes and directives
            raise SpecError(
                [Problem(name, line, column, "", f"cannot be read as YAML after this place: {error}")]
            ) from None
        line, column = event.end_mark.line + 1, event.end_mark.column + 1
        yield event


# What a newcomer most often did when the parser says so.
_HINTS = {
    "mapping values are not allowed here": "a second ':' on the line, or bad indentation; quote a text with ': '",
    "cannot start any token": "indent with spaces, not tabs, and quote a text that begins with a special character",
    "could not find expected ':'": "each entry of a mapping is written `name: value`, with a space after ':'",
    "found unexpected end of stream": "a quote or a bracket was never closed",
    "but got '<stream end>'": "a quote or a bracket was never closed",
    "expected <block end>": "the indentation does not fit the lines above",
}  # fmt: skip


def _explained(error: MarkedYAMLError) -> str:
    what = " ".join(part for part in (error.problem, error.context) if part)
    hint = next((hint for sign, hint in _HINTS.items() if sign in what), None)
    return f"not valid YAML: {what}" + (f" ({hint})" if hint else "")


def _decoded(raw: bytes, name: str) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line, column = _place(raw[: error.start].decode("utf-8"))
        utf16 = raw.startswith((b"\xff\xfe", b"\xfe\xff"))
        guess = "it looks like UTF-16; save it as UTF-8" if utf16 else "is it a binary file, or in another encoding?"
        message = f"the byte 0x{raw[error.start]:02x} is not UTF-8 text; {guess}"
        raise SpecError([Problem(name, line, column, "", message)]) from None


def _place(before: str) -> tuple[int, int]:
    """The 1-based line and column after the text `before`."""
    lines = re.split("\r\n|\r|\n", before)
    return len(lines), len(lines[-1]) + 1


def _why_closed(name: str, error: Exception) -> str:
    if isinstance(error, IsADirectoryError):
        return "is a directory; give a file in it"
    if isinstance(error, FileNotFoundError):
        return f"no such file{_neighbours(name)}"
    return f"cannot be read: {getattr(error, 'strerror', None) or error}"


def _neighbours(name: str) -> str:
    path = FilePath(name)
    try:
        close = nearest(path.name, os.listdir(path.parent))
    except OSError:
        return f"; there is no directory {str(path.parent)!r} either"
    return f"; did you mean {', '.join(close)}?" if close else ""
