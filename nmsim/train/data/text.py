"""Text of the user's own, cut into windows of characters or bytes for next-token prediction."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nmsim.errors import unknown
from nmsim.train.data.checks import DataError, check_integers, file_error
from nmsim.train.data.dataset import Dataset, Split
from nmsim.train.data.files import read_bytes

_WAYS = ("character", "byte")


def from_text(path: str | Path, length: int = 128, by: str = "character", test_part: float = 0.1) -> Dataset:
    """Windows [N, length] of a UTF-8 file that do not overlap, targets the next tokens; the last part is the test.

    By "character" the vocabulary is the characters that occur, in the order of their code points; by "byte" it is the
    256 bytes of any file. Raises DataError for a missing file, one that is not UTF-8 (by character), or one too short
    to give a window to both splits.
    """
    check_integers(length=length)
    if by not in _WAYS:
        raise DataError(unknown("way to cut text", by, _WAYS))
    if not 0 < test_part < 1:
        raise DataError(f"test_part must lie between 0 and 1, not {test_part!r}")
    file = Path(path)
    content = read_bytes(file)
    tokens, words = _characters(file, content) if by == "character" else _bytes(content)
    windows = (len(tokens) - 1) // length
    tested = max(1, round(windows * test_part))
    if windows - tested < 1:
        raise file_error(file, f"{len(tokens)} {by}s; windows of {length} for train and test need {2 * length + 1}")
    used = windows * length
    inputs, targets = (tokens[i : i + used].reshape(windows, length) for i in (0, 1))
    cut = windows - tested
    splits = Split(inputs[:cut], targets[:cut]), Split(inputs[cut:], targets[cut:])
    return Dataset(file.stem, "tokens", *splits, len(words), {"words": words, "separator": ""})


def _characters(path: Path, content: bytes) -> tuple[np.ndarray, tuple[str, ...]]:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise file_error(path, f"byte {error.start} is not UTF-8 ({error.reason}); read it by='byte'") from None
    points, tokens = np.unique(np.frombuffer(text.encode("utf-32-le"), "<u4"), return_inverse=True)
    return tokens.astype(np.int32), tuple(chr(p) for p in points)


def _bytes(content: bytes) -> tuple[np.ndarray, tuple[str, ...]]:
    """Bytes as their own ids; `words` shows each as its Latin-1 character."""
    return np.frombuffer(content, np.uint8).astype(np.int32), tuple(chr(i) for i in range(256))
