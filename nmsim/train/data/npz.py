"""Arrays of the user's own from an .npz file, every member checked for its size before it is read; no pickles."""

from __future__ import annotations

import lzma
import math
import tokenize
import zipfile
import zlib
from pathlib import Path

import numpy as np

from nmsim.errors import unknown
from nmsim.train.data.checks import DataError, check_integers, file_error
from nmsim.train.data.dataset import KINDS, Dataset, Split
from nmsim.train.data.files import MAX_BYTES, scaled_images

_NAMES = ("train_x", "train_y", "test_x", "test_y")


def from_npz(
    path: str | Path, kind: str | None = None, classes: int | None = None, max_bytes: int = MAX_BYTES
) -> Dataset:
    """The dataset of an .npz with train_x, train_y, test_x and test_y, whose shapes are those of `Dataset`.

    `kind` None is told from train_x: 4 axes are images, floats with fewer are signals, integers are tokens when train_y
    has their shape and sequences otherwise. `classes` None is one more than the largest id. Byte images are scaled to
    mean 0 and variance 1, other floats become float32 as they are. Raises DataError for a file that is missing, damaged
    or over `max_bytes` unpacked, for object arrays, NaN, sizes that disagree and labels out of range.
    """
    file = Path(path)
    if kind is not None and kind not in KINDS:
        raise DataError(unknown("kind of data", kind, KINDS))
    arrays = _read(file, max_bytes)
    kind = kind or _kind(arrays["train_x"], arrays["train_y"])
    for name in ("train_y", "test_y"):
        if not np.issubdtype(arrays[name].dtype, np.integer):
            raise file_error(file, f"{name} must hold integers, not {arrays[name].dtype}")
    tokens = kind in ("tokens", "sequence_to_sequence")
    if classes is None:
        of = _NAMES if tokens else ("train_y", "test_y")
        classes = max(int(arrays[name].max(initial=0)) for name in of) + 1
    check_integers(most=2**31 - 1, classes=classes)
    for name in _NAMES:
        _check_values(file, name, arrays[name], classes if name.endswith("y") or tokens else None)
    train, test = (_split(file, arrays, part) for part in ("train", "test"))
    if kind == "images" and train.inputs.dtype == test.inputs.dtype == np.uint8 and train.inputs.ndim == 4:
        return scaled_images(file.stem, train, test, classes)
    train, test = (_converted(s, np.int32 if tokens else np.float32) for s in (train, test))
    try:
        return Dataset(file.stem, kind, train, test, classes)
    except DataError as error:
        raise file_error(file, str(error)) from None


def _read(path: Path, max_bytes: int) -> dict[str, np.ndarray]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            for name in _NAMES:
                if name not in members:
                    raise file_error(path, f"lacks the array {name!r}; it has {', '.join(sorted(members)) or 'none'}")
            total = sum(members[name].file_size for name in _NAMES)
            if total > max_bytes:
                raise file_error(path, f"unpacks to {total} bytes; at most {max_bytes} are read")
            return {name: _member(path, archive, members[name]) for name in _NAMES}
    except FileNotFoundError:
        raise file_error(path, "there is no such file") from None
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError) as error:
        raise file_error(path, f"not a valid .npz file: {error}") from None
    except OSError as error:
        raise file_error(path, f"cannot be read: {error.strerror or error}") from error


def _member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    """One array, read only once the size that its header gives is the size of the member."""
    try:
        with archive.open(info) as stream:
            first = np.lib.format.read_magic(stream)[0] == 1
            read = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(stream)
            begin = stream.tell()
        if dtype.kind not in "biuf":
            raise file_error(path, f"{info.filename} holds {dtype}; only numbers are read, never pickled objects")
        expected = begin + math.prod(shape) * dtype.itemsize
        if expected != info.file_size:
            raise file_error(path, f"{info.filename} has {info.file_size} bytes, its header gives {expected}")
        with archive.open(info) as stream:
            return np.lib.format.read_array(stream, allow_pickle=False)
    except DataError:
        raise
    except (ValueError, SyntaxError, tokenize.TokenError) as error:
        raise file_error(path, f"{info.filename} is not a valid array: {error}") from None


def _kind(inputs: np.ndarray, targets: np.ndarray) -> str:
    if inputs.ndim == 4:
        return "images"
    if inputs.dtype.kind == "f" or targets.ndim == 1:
        return "signals"
    return "tokens" if inputs.shape == targets.shape else "sequence_to_sequence"


def _check_values(path: Path, name: str, array: np.ndarray, classes: int | None) -> None:
    """No NaN, nothing that float32 cannot hold, and ids within the classes (-1 only for targets)."""
    if classes is None:
        wrong, allowed = ~(np.abs(array) <= np.finfo(np.float32).max), "finite float32 values"
    else:
        low = -1 if name.endswith("y") else 0
        wrong = (array < low) | (array >= classes)
        allowed = f"0 to {classes - 1}" + (" or -1" if low else "")
    if wrong.any():
        first = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise file_error(path, f"{name}{list(first)} is {array[first]}; allowed: {allowed}")


def _split(path: Path, arrays: dict[str, np.ndarray], part: str) -> Split:
    inputs, targets = arrays[f"{part}_x"], arrays[f"{part}_y"]
    try:
        return Split(inputs, targets.astype(np.int32))
    except DataError as error:
        raise file_error(path, f"{part}: {error}") from None


def _converted(split: Split, dtype: type) -> Split:
    return Split(split.inputs.astype(dtype, copy=False), split.targets)
