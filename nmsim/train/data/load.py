"""A dataset by its name or its path."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from nmsim.errors import unknown
from nmsim.train.data.binary import from_cifar, from_idx, idx_file
from nmsim.train.data.checks import DataError, file_error
from nmsim.train.data.dataset import Dataset
from nmsim.train.data.images import images
from nmsim.train.data.knowledge import knowledge
from nmsim.train.data.npz import from_npz
from nmsim.train.data.sequences import markov, recall
from nmsim.train.data.signals import signals
from nmsim.train.data.text import from_text
from nmsim.train.data.translation import translation

GENERATED: dict[str, Callable[..., Dataset]] = {
    "images": images,
    "signals": signals,
    "translation": translation,
    "recall": recall,
    "markov": markov,
    "knowledge": knowledge,
}


def load_data(name_or_path: str | Path, seed: int | np.random.Generator = 0, **options: Any) -> Dataset:
    """The generated dataset of a name in GENERATED, or what a path holds.

    A folder is CIFAR or IDX by the files in it, an .npz its arrays, any other file text; the seed is for generated data
    alone. `options` go to the maker. Raises DataError for an unknown name (with the nearest), a path that does not
    exist, an option its maker does not have, and whatever the maker finds.
    """
    name, path = str(name_or_path), Path(name_or_path)
    if name in GENERATED:
        return _make(name, GENERATED[name], {"seed": seed, **options})
    if path.is_dir():
        maker, found = _folder(path)
        return _make(maker.__name__, maker, {"folder": path, **found, **options})
    if path.is_file():
        maker = from_npz if path.suffix == ".npz" else from_text
        return _make(maker.__name__, maker, {"path": path, **options})
    if path.suffix or len(path.parts) > 1:
        raise file_error(path, "there is no such file or folder")
    raise DataError(unknown("dataset", name, GENERATED) + "; or the path of a file or folder")


def _folder(path: Path) -> tuple[Callable[..., Dataset], dict[str, int]]:
    """What reads a folder, by the files in it."""
    if idx_file(path, "train-images", 3).exists():
        return from_idx, {}
    for classes, test_file, usual in (
        (10, "test_batch.bin", "cifar-10-batches-bin"),
        (100, "test.bin", "cifar-100-binary"),
    ):
        if (path / test_file).exists() or (path / usual).is_dir():
            return from_cifar, {"classes": classes}
    raise file_error(path, "holds neither CIFAR (test_batch.bin, test.bin) nor IDX files (train-images-idx3-ubyte)")


def _make(name: str, maker: Callable[..., Dataset], options: dict[str, Any]) -> Dataset:
    known = inspect.signature(maker).parameters
    for option in options:
        if option not in known:
            raise DataError(unknown(f"option of {name}", option, set(known) - {"path", "folder"}))
    return maker(**options)
