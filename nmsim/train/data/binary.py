"""Image sets in their published binary layouts: CIFAR-10 and CIFAR-100 (binary version), MNIST and its like (IDX)."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from nmsim.train.data.checks import DataError, check_integers, file_error
from nmsim.train.data.dataset import Dataset, Split
from nmsim.train.data.files import MAX_BYTES, check_labels, existing_folder, read_bytes, read_gzip, scaled_images

_PIXELS = 3 * 32 * 32
# By classes: label bytes before the pixels (the last is the one used), train files, test files, usual subfolder.
_CIFAR = {
    10: (1, tuple(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin", "cifar-10-batches-bin"),
    100: (2, ("train.bin",), "test.bin", "cifar-100-binary"),
}
_UBYTE = 8  # the IDX code of unsigned bytes


def from_cifar(folder: str | Path, classes: int = 10) -> Dataset:
    """CIFAR-10 or CIFAR-100 (fine labels) from the binary version's files, in `folder` or its usual subfolder.

    Images [N, 32, 32, 3] float32, each channel of mean 0 and variance 1 over the train split. A file is whole records
    of label and 3072 bytes (https://www.cs.toronto.edu/~kriz/cifar.html, "Binary version"). Raises DataError for
    `classes` other than 10 and 100, a missing file, one that is no whole number of records, or a label out of range.
    """
    if classes not in _CIFAR:
        raise DataError(f"CIFAR has 10 or 100 classes, not {classes!r}")
    root = existing_folder(folder)
    marks, train_files, test_file, usual = _CIFAR[classes]
    if not (root / test_file).exists() and (root / usual).is_dir():
        root = root / usual
    parts = [_cifar_file(root / name, marks, classes) for name in train_files]
    train = Split(np.concatenate([p.inputs for p in parts]), np.concatenate([p.targets for p in parts]))
    return scaled_images(f"cifar{classes}", train, _cifar_file(root / test_file, marks, classes), classes)


def _cifar_file(path: Path, marks: int, classes: int) -> Split:
    record = marks + _PIXELS
    content = np.frombuffer(read_bytes(path), np.uint8)
    if not content.size or content.size % record:
        raise file_error(path, f"{content.size} bytes are no whole number of records of {record}; truncated?")
    rows = content.reshape(-1, record)
    labels = rows[:, marks - 1].astype(np.int32)
    check_labels(path, labels, classes, "label of record")
    return Split(rows[:, marks:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), labels)


def from_idx(folder: str | Path, classes: int = 10) -> Dataset:
    """MNIST, Fashion-MNIST or another set of four IDX files of unsigned bytes, plain or .gz, from `folder`.

    Images [N, H, W, 1] float32 of mean 0 and variance 1 over the train split. The files are train-images-idx3-ubyte,
    train-labels-idx1-ubyte and the same for t10k (or with a dot before idx). Raises DataError for a missing file, a
    wrong magic number, a size that the header does not give, or a label that is not below `classes`.
    """
    check_integers(classes=classes)
    root = existing_folder(folder)
    train, test = (_idx_split(root, part, classes) for part in ("train", "t10k"))
    if train.inputs.shape[1:] != test.inputs.shape[1:]:
        raise file_error(root, f"train images are {train.inputs.shape[1:3]}, t10k images {test.inputs.shape[1:3]}")
    return scaled_images("idx", train, test, classes)


def idx_file(root: Path, stem: str, axes: int) -> Path:
    """The IDX file of this stem that exists, in one of its four spellings; the plain one when none does."""
    spellings = [root / f"{stem}{dot}idx{axes}-ubyte{end}" for end in ("", ".gz") for dot in ("-", ".")]
    return next((path for path in spellings if path.exists()), spellings[0])


def _idx_split(root: Path, part: str, classes: int) -> Split:
    image_path, label_path = idx_file(root, f"{part}-images", 3), idx_file(root, f"{part}-labels", 1)
    pixels, labels = _idx_array(image_path, 3), _idx_array(label_path, 1).astype(np.int32)
    if len(pixels) != len(labels):
        raise file_error(label_path, f"{len(labels)} labels, but {image_path.name} has {len(pixels)} images")
    check_labels(label_path, labels, classes)
    return Split(pixels[..., None], labels)


def _idx_array(path: Path, axes: int) -> np.ndarray:
    """The array of an IDX file: magic 0, 0, type, axes; each length as four big-endian bytes; the elements."""
    begin = 4 + 4 * axes
    header = read_gzip(path, begin) if path.suffix == ".gz" else read_bytes(path)[:begin]
    if header[:4] != bytes((0, 0, _UBYTE, axes)):
        magic = f"0x{_UBYTE * 256 + axes:08x}"
        raise file_error(path, f"wrong magic number 0x{header[:4].hex()}; {magic} is an IDX file of {axes}-D bytes")
    if len(header) < begin:
        raise file_error(path, f"truncated: {len(header)} bytes, the header alone takes {begin}")
    shape = [int(n) for n in np.frombuffer(header, ">u4", axes, 4)]
    expected = begin + math.prod(shape)
    if not math.prod(shape) or expected > MAX_BYTES:
        raise file_error(path, f"the header gives sizes {shape}; from 1 to {MAX_BYTES} bytes are read")
    content = read_gzip(path, expected + 1) if path.suffix == ".gz" else read_bytes(path, expected)
    if len(content) != expected:
        problem = "truncated: it ends before" if len(content) < expected else "it goes on after"
        raise file_error(path, f"{problem} the {expected} bytes that its header gives for sizes {shape}")
    return np.frombuffer(content, np.uint8, offset=begin).reshape(shape)
