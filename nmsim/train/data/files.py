"""Reading the user's files: whole and bounded in size, with the file named when something is wrong."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np

from nmsim.train.data.checks import file_error
from nmsim.train.data.dataset import Dataset, Split

MAX_BYTES = 4 << 30


def read_bytes(path: Path, expected: int | None = None, max_bytes: int = MAX_BYTES) -> bytes:
    """The content of a file; raises DataError when it is unreadable, over `max_bytes` or not as `expected`."""
    try:
        found = path.stat().st_size
        if found > max_bytes:
            raise file_error(path, f"{found} bytes; at most {max_bytes} are read")
        if expected is not None and found != expected:
            raise file_error(path, f"{'truncated: ' if found < expected else ''}{found} bytes, expected {expected}")
        return path.read_bytes()
    except FileNotFoundError:
        raise file_error(path, "there is no such file") from None
    except OSError as error:
        raise file_error(path, f"cannot be read: {error.strerror}") from error


def read_gzip(path: Path, at_most: int) -> bytes:
    """Up to `at_most` bytes of what a .gz file unpacks to; raises DataError when it is missing or damaged."""
    try:
        with gzip.open(path) as stream:
            return stream.read(at_most)
    except FileNotFoundError:
        raise file_error(path, "there is no such file") from None
    except EOFError:
        raise file_error(path, "truncated: the compressed data end too early") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise file_error(path, f"not a valid gzip file: {error}") from None
    except OSError as error:
        raise file_error(path, f"cannot be read: {error.strerror}") from error


def existing_folder(folder: str | Path) -> Path:
    """The folder as a path; raises DataError when it is not there or is a file."""
    path = Path(folder)
    if not path.is_dir():
        raise file_error(path, "not a folder" if path.exists() else "there is no such folder")
    return path


def check_labels(path: Path, labels: np.ndarray, classes: int, what: str = "label") -> None:
    """Raise DataError that names the file and the first label outside 0..classes-1."""
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if wrong.size:
        raise file_error(path, f"{what} {wrong[0]} is {labels.flat[wrong[0]]}; allowed: 0 to {classes - 1}")


def scaled_images(name: str, train: Split, test: Split, classes: int) -> Dataset:
    """A dataset of byte images [N, H, W, C], each channel shifted and scaled to mean 0, variance 1 of the train split.

    `info` has the `mean` and `std` of each channel, as bytes were counted from 0 to 1.
    """
    levels = np.arange(256) / 255
    counts = [np.bincount(train.inputs[..., c].ravel(), minlength=256) for c in range(train.inputs.shape[-1])]
    mean = np.array([np.average(levels, weights=n) for n in counts])
    variance = [np.average((levels - m) ** 2, weights=n) for m, n in zip(mean, counts, strict=True)]
    std = np.maximum(np.sqrt(variance), 1e-6)
    table = ((levels - mean[:, None]) / std[:, None]).astype(np.float32)
    channel = np.arange(len(mean))
    scaled = [Split(table[channel, s.inputs], s.targets) for s in (train, test)]
    return Dataset(name, "images", scaled[0], scaled[1], classes, {"mean": mean, "std": std})
